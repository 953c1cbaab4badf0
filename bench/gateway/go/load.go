package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

type settings struct {
	url     string
	openai  bool
	streams int
	parts   int
	ramp    time.Duration
	seconds time.Duration
}

// What one run gave. Times are milliseconds; `broken` says what the first few that were not right had.
type outcome struct {
	Requests int      `json:"requests"`
	Chunks   int      `json:"chunks"`
	Lost     int      `json:"lost"`
	Broken   []string `json:"broken"`
	FirstP50 float64  `json:"first_p50"`
	FirstP99 float64  `json:"first_p99"`
	WholeP50 float64  `json:"whole_p50"`
	WholeP99 float64  `json:"whole_p99"`
	Seconds  float64  `json:"seconds"`
}

type tally struct {
	sync.Mutex
	outcome
	first, whole []float64
}

// What is told meanwhile: all streams are open, or the first one has ended. The chunks that came so far.
type mark struct {
	Mark   string `json:"mark"`
	Chunks int64  `json:"chunks"`
}

type progress struct {
	sync.Mutex
	chunks, open atomic.Int64
	ended        bool
}

func (p *progress) tell(what string) {
	p.Lock()
	defer p.Unlock()
	if what == "ended" && p.ended {
		return
	}
	p.ended = p.ended || what == "ended"
	json.NewEncoder(os.Stdout).Encode(mark{what, p.chunks.Load()})
}

// With `-seconds`, short whole answers, one after the other on `-streams` connections; else that many streams, begun
// evenly over `-ramp`. Every answer is compared with what the upstream is known to say.
func load(args []string) error {
	var s settings
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	flags.StringVar(&s.url, "url", "", "where the chats go")
	flags.BoolVar(&s.openai, "openai", false, "speak /v1/chat/completions instead of the native protocol")
	flags.IntVar(&s.streams, "streams", 1000, "open at once")
	flags.IntVar(&s.parts, "parts", 20, "of each answer")
	flags.DurationVar(&s.ramp, "ramp", time.Second, "in which all streams begin")
	flags.DurationVar(&s.seconds, "seconds", 0, "how long short answers are asked for")
	if err := flags.Parse(args); err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: s.streams, DisableCompression: true}}
	found, seen := &tally{}, &progress{}
	began := time.Now()
	var all sync.WaitGroup
	for i := 0; i < s.streams; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			if s.seconds > 0 {
				for n := i; time.Since(began) < s.seconds; n += s.streams {
					found.add(short(client, s, n))
				}
				return
			}
			time.Sleep(time.Duration(i) * s.ramp / time.Duration(s.streams))
			found.add(stream(client, s, i, seen))
		}()
	}
	all.Wait()
	found.Seconds = time.Since(began).Seconds()
	found.FirstP50, found.FirstP99 = percentile(found.first, 50), percentile(found.first, 99)
	found.WholeP50, found.WholeP99 = percentile(found.whole, 50), percentile(found.whole, 99)
	return json.NewEncoder(os.Stdout).Encode(found.outcome)
}

type answered struct {
	chunks      int
	first, took time.Duration
	err         error
}

func (t *tally) add(a answered) {
	t.Lock()
	defer t.Unlock()
	t.Requests++
	t.Chunks += a.chunks
	if a.err != nil {
		t.Lost++
		if len(t.Broken) < 5 {
			t.Broken = append(t.Broken, a.err.Error())
		}
		return
	}
	t.first = append(t.first, a.first.Seconds()*1e3)
	t.whole = append(t.whole, a.took.Seconds()*1e3)
}

func body(s settings, id int, streams bool) io.Reader {
	limit := fmt.Sprintf(`"options":{"max_new_tokens":%d}`, s.parts)
	if s.openai {
		limit = fmt.Sprintf(`"max_tokens":%d`, s.parts)
	}
	return bytes.NewReader(fmt.Appendf(nil,
		`{"model":"demo","messages":[{"role":"user","content":"%d"}],%s,"stream":%t}`, id, limit, streams))
}

func post(client *http.Client, s settings, id int, streams bool) (*http.Response, error) {
	response, err := client.Post(s.url, "application/json", body(s, id, streams))
	if err == nil && response.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 300))
		response.Body.Close()
		return nil, fmt.Errorf("HTTP %d: %s", response.StatusCode, said)
	}
	return response, err
}

func stream(client *http.Client, s settings, id int, seen *progress) (a answered) {
	began := time.Now()
	response, err := post(client, s, id, true)
	if err != nil {
		return answered{err: err}
	}
	defer response.Body.Close()
	lines := bufio.NewReaderSize(response.Body, 8192)
	next, ended := 0, false
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 1 {
			a.chunks++
			seen.chunks.Add(1)
			if a.first == 0 {
				a.first = time.Since(began)
				if seen.open.Add(1) == int64(s.streams) {
					seen.tell("open")
				}
			}
			next, ended = follow(line, s, id, next, ended)
		}
		if err == io.EOF {
			seen.tell("ended")
			break
		}
		if err != nil {
			a.err = fmt.Errorf("stream %d broke after part %d: %w", id, next, err)
			return a
		}
	}
	a.took = time.Since(began)
	if next != s.parts || !ended {
		a.err = fmt.Errorf("stream %d: %d of %d parts in order, ended: %t", id, next, s.parts, ended)
	}
	return a
}

// Whether the line says the next part of the stream, or its end.
func follow(line []byte, s settings, id, next int, ended bool) (int, bool) {
	if bytes.Contains(line, []byte(`"content":"`+token(id, next)+`"`)) {
		return next + 1, ended
	}
	if s.openai {
		return next, ended || bytes.HasPrefix(line, []byte("data: [DONE]"))
	}
	return next, ended || bytes.Equal(line, []byte(lastPart(id, s.parts)))
}

func short(client *http.Client, s settings, id int) (a answered) {
	began := time.Now()
	response, err := post(client, s, id, false)
	if err != nil {
		return answered{err: err}
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err == nil && !bytes.Contains(said, []byte(token(id, s.parts-1)+`"`)) {
		err = fmt.Errorf("answer %d is %s", id, strconv.Quote(string(said)))
	}
	return answered{chunks: 1, first: time.Since(began), took: time.Since(began), err: err}
}

func percentile(values []float64, percent int) float64 {
	if len(values) == 0 {
		return 0
	}
	sort.Float64s(values)
	return values[(len(values)-1)*percent/100]
}
