// What stands around a proxy that is measured: engines that say known tokens, the load, and Go's own reverse proxy.
//
// Standard library only, one binary: `upstream`, `proxy` and `load`, started by `python -m bench.gateway`. Go, because
// neither the engines nor the load may cost more than what is between them.
package main

import (
	"fmt"
	"os"
	"syscall"
)

func main() {
	commands := map[string]func([]string) error{"upstream": upstream, "proxy": proxy, "load": load}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: gateway upstream|proxy|load FLAGS")
		os.Exit(2)
	}
	if os.Args[1] != "proxy" {
		makeRoomForFiles()
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// Where the kernel enlarges the table of open files, a process with threads stands still for 10 to 20 ms. What stands
// around a proxy must not: that would be told of the proxy.
func makeRoomForFiles() {
	var allowed syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &allowed) != nil {
		return
	}
	last := int(min(allowed.Cur, 65536)) - 1
	if syscall.Dup3(0, last, 0) == nil {
		syscall.Close(last)
	}
}
