LISTEN eventferry
