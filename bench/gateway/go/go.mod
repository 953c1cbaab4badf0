module bench/gateway

go 1.22
