-- The positions of all streams of the store. CACHE 1: a session that keeps positions
-- in its pocket would draw them before its marker.
CREATE SEQUENCE eventferry.positions AS bigint CACHE 1;
