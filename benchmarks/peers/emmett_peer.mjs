// emmett-postgresql: appendToStream, and a consumer with a projector; see serving.py for what is
// asked. The limits are those of node-postgres, its driver.

import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(`${process.env.PEER_FOLDER}/`);
const emmett = require('@event-driven-io/emmett-postgresql');
const dumbo = require('@event-driven-io/dumbo');
const pg = require('pg');

const OPEN_S = [0.001, 0.008];
const ROLLED_BACK = 0.1;
const BATCH = 1000;
const INSERT = {
  name: 'insert',
  text: 'INSERT INTO plain (id, type, entity_id, version, data, metadata) VALUES ($1, $2, $3, $4, $5, $6)',
};
const INSERT_MANY = {
  name: 'insert-many',
  text:
    'INSERT INTO plain (id, type, entity_id, version, data, metadata) SELECT * FROM' +
    ' unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::json[], $6::json[])',
};
const BARE_EFFECT = {
  name: 'effect',
  text: 'INSERT INTO bare_effects (event_id, entity_id, type) VALUES ($1, $2, $3)',
};

// Its waits double while nothing comes, up to 1 s. After a full batch they begin again at the
// pulling frequency: batches of one event follow closely.
const PULLING = {
  backlog: { batchSize: 1000, pullingFrequencyInMs: 1 },
  live: {},
  closely: { batchSize: 1, pullingFrequencyInMs: 1 },
};

class RolledBack extends Error {}

let url, sample, texts, store, following;
const seconds = () => Number(process.hrtime.bigint()) / 1e9; // the system's monotonic clock

const events = (size) =>
  Array.from({ length: size }, () => ({
    type: sample.type,
    data: sample.data,
    metadata: sample.metadata,
  }));

// So many at once that repeat their step until the time is up.
const together = async (writers, duration, step) => {
  let count = 0;
  const begun = seconds();
  const write = async (number) => {
    while (seconds() < begun + duration) {
      const done = await step(number);
      count += done;
    }
  };
  await Promise.all(Array.from({ length: writers }, (_, number) => write(number)));
  return { events: count, seconds: seconds() - begun };
};

const withClients = async (count, work) => {
  const clients = Array.from({ length: count }, () => new pg.Client(url));
  await Promise.all(clients.map((client) => client.connect()));
  try {
    return await work(clients);
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
};

// One INSERT an event, in the transaction that stores the checkpoint.
const projection = (name) =>
  emmett.postgreSQLProjection({
    name,
    canHandle: [sample.type],
    handle: async (messages, { execute }) => {
      for (const { type, metadata } of messages) {
        await execute.command(
          dumbo.sql(
            'INSERT INTO effects (event_id, entity_id, type) VALUES (%L, %L, %L)',
            metadata.globalPosition.toString(),
            metadata.streamName,
            type,
          ),
        );
      }
    },
  });

const peer = {
  hello: () => ({
    client: `node-postgres ${require('pg/package.json').version}`,
    guarantee: 'exactly once: effect and checkpoint commit together',
    how: 'appendToStream; consumer and projector, 1,000 a batch, pulling each ms; hop: 1 a batch; lost: its defaults',
  }),
  set_up: async (asked) => {
    await peer.open(asked);
    await store.schema.migrate();
    return { events: 'SELECT global_position::text FROM emt_messages' };
  },
  open: async (asked) => {
    ({ url, sample } = asked);
    texts = [JSON.stringify(sample.data), JSON.stringify(sample.metadata)];
    store = emmett.getPostgreSQLEventStore(url);
  },
  append: ({ writers, size, seconds: duration }) =>
    together(writers, duration, async () => {
      await store.appendToStream(`user-${randomUUID()}`, events(size));
      return size;
    }),
  bare: ({ writers, size, seconds: duration }) =>
    withClients(writers, (clients) => {
      const one = async (number) => {
        const row = [randomUUID(), sample.type, randomUUID(), 1, ...texts];
        await clients[number].query({ ...INSERT, values: row });
        return 1;
      };
      const many = async (number) => {
        const entity = randomUUID();
        const rows = Array.from({ length: size }, (_, version) => version + 1);
        const column = (make) => rows.map(make);
        const values = [
          column(() => randomUUID()),
          column(() => sample.type),
          column(() => entity),
          rows,
          column(() => texts[0]),
          column(() => texts[1]),
        ];
        await clients[number].query({ ...INSERT_MANY, values });
        return size;
      };
      return together(writers, duration, size === 1 ? one : many);
    }),
  bare_effects: ({ seconds: duration }) =>
    withClients(1, async ([client]) => {
      await client.query('TRUNCATE bare_effects');
      return await together(1, duration, async () => {
        const queued = [client.query('BEGIN')];
        for (let number = 0; number < BATCH; number++) {
          const values = [randomUUID(), 'entity', sample.type];
          queued.push(client.query({ ...BARE_EFFECT, values }));
        }
        await Promise.all([...queued, client.query('COMMIT')]);
        return BATCH;
      });
    }),
  follow: async ({ name, purpose }) => {
    const consumer = store.consumer({ pulling: PULLING[purpose] });
    consumer.projector({ projection: projection(name) });
    following = { consumer, ended: consumer.start() };
  },
  stop: async () => {
    await following.consumer.stop();
    await following.ended;
  },
  one: async () => {
    const begun = seconds();
    await store.appendToStream(`user-${randomUUID()}`, events(1));
    return { begun };
  },
  // Other work in the transaction of an append is that of an inline projection.
  contend: async ({ writers, seconds: duration }) => {
    const work = emmett.postgreSQLProjection({
      canHandle: [sample.type],
      handle: async (_events, { execute }) => {
        const open = OPEN_S[0] + Math.random() * (OPEN_S[1] - OPEN_S[0]);
        await execute.query(dumbo.sql('SELECT pg_sleep(%s)', open));
        if (Math.random() < ROLLED_BACK) throw new RolledBack();
      },
    });
    const working = emmett.getPostgreSQLEventStore(url, {
      projections: [{ type: 'inline', projection: work }],
      schema: { autoMigration: 'None' },
    });
    try {
      return await together(writers, duration, async () => {
        try {
          await working.appendToStream(`user-${randomUUID()}`, events(1));
          return 1;
        } catch (error) {
          if (error instanceof RolledBack) return 0;
          throw error;
        }
      });
    } finally {
      await working.close();
    }
  },
};

const say = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr); // what a library prints is no answer
for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...asked } = JSON.parse(line);
  let answer;
  try {
    answer = (await peer[name](asked)) ?? {};
  } catch (error) {
    answer = { error: String(error?.stack ?? error) };
  }
  say(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
