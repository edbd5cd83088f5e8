-- {keys}, {first}, {which}: as parked_page; how many are counted
SELECT count(*) FROM (SELECT FROM eventferry.parked_events
                       WHERE ({keys}) > ({first}) AND {which}
                       ORDER BY {keys} LIMIT %(look)s::bigint) AS counted
