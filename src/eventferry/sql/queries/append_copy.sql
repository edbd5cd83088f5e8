-- {columns}: those given
COPY {stream} ({columns}) FROM STDIN (FORMAT BINARY)
