COPY pg_temp.eventferry_page ({columns}) FROM STDIN (FORMAT BINARY)
