package main

import (
	"flag"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"
)

// What the front door is measured beside: Go's own reverse proxy, with as many idle connections as it likes.
func proxy(args []string) error {
	flags := flag.NewFlagSet("proxy", flag.ExitOnError)
	to := flags.String("to", "", "the upstream's URL")
	if err := flags.Parse(args); err != nil {
		return err
	}
	target, err := url.Parse(*to)
	if err != nil {
		return err
	}
	relay := httputil.NewSingleHostReverseProxy(target)
	// As NDJSON has no special case there: every part goes on at once.
	relay.FlushInterval = -1
	relay.Transport = &http.Transport{
		MaxIdleConnsPerHost: 4096,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
	}
	return serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Else an engine that answers at once loses streams: the server closes a request's body when the answer begins,
		// and the transport, still looking for that body's end, then closes the connection.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		relay.ServeHTTP(w, r)
	}))
}
