CREATE TABLE IF NOT EXISTS users (
    id    uuid PRIMARY KEY,
    name  text NOT NULL,
    email text NOT NULL UNIQUE
);

SELECT eventferry.create_stream('users-stream', 'Who registers');
