package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// What the upstream needs to know of a chat: the last message is the stream's number, the limit its parts.
type chat struct {
	Messages []struct {
		Content string `json:"content"`
	} `json:"messages"`
	Options struct {
		MaxNewTokens int `json:"max_new_tokens"`
	} `json:"options"`
	Stream *bool `json:"stream"`
}

// An engine without a model: the first part at once, the others `pause` apart.
func upstream(args []string) error {
	flags := flag.NewFlagSet("upstream", flag.ExitOnError)
	pause := flags.Duration("pause", 400*time.Millisecond, "between two parts of a stream")
	if err := flags.Parse(args); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /engine/inference", func(w http.ResponseWriter, r *http.Request) { answer(w, r, *pause) })
	return serve(mux)
}

func answer(w http.ResponseWriter, r *http.Request, pause time.Duration) {
	body, err := io.ReadAll(r.Body)
	var asked chat
	if err == nil {
		err = json.Unmarshal(body, &asked)
	}
	if err != nil || len(asked.Messages) == 0 {
		http.Error(w, "not a chat", http.StatusBadRequest)
		return
	}
	id, err := strconv.Atoi(asked.Messages[len(asked.Messages)-1].Content)
	if err != nil {
		http.Error(w, "the last message is no number", http.StatusBadRequest)
		return
	}
	parts := asked.Options.MaxNewTokens
	if asked.Stream != nil && !*asked.Stream {
		w.Header().Set("content-type", "application/json")
		io.WriteString(w, whole(id, parts))
		return
	}
	w.Header().Set("content-type", "application/x-ndjson")
	flusher := w.(http.Flusher)
	ticks := time.NewTicker(pause)
	defer ticks.Stop()
	for i := 0; i < parts; i++ {
		if i > 0 {
			select {
			case <-ticks.C:
			case <-r.Context().Done():
				return
			}
		}
		io.WriteString(w, part(id, i))
		flusher.Flush()
	}
	io.WriteString(w, lastPart(id, parts))
}

// Serves on a free port of the loopback, which is told on stdout.
func serve(handler http.Handler) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	return http.Serve(listener, handler)
}
