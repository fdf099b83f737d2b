// Holds many streams of Server-Sent Events and measures what comes.
//
// The first line of standard input is a Plan as JSON, each further one a command:
//
//	await COUNT SECONDS  until each client that reads has COUNT events, or the time is over
//	cut                  close every connection at once
//	return               come back with Last-Event-ID, all at once
//
// Each is answered by one line of JSON; the plan by how the connects went. An event is counted
// when its data holds `@NUMBER@NANOSECONDS@`: the number of the event, from 1, and when it was
// published.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	slowBytes = 1024 // a second, for who reads slowly
	sources   = 4    // 127.0.0.1 and following: one address has 28,000 ports
)

type Plan struct {
	Address string
	Paths   []string // one a client
	Slow    int      // so many of the first clients read 1 KB/s
	Stuck   int      // so many of the following read nothing after the head of the answer
	AtOnce  int      // connects under way
}

type pace int

const (
	normal pace = iota
	slow
	stuck
)

type client struct {
	plan   *Plan
	number int
	pace   pace

	sync.Mutex
	conn       net.Conn
	lastID     string
	seen       []bool
	last       int
	events     int
	disordered int
	duplicates int
	latencies  []float64 // milliseconds, since the last await
	lastAt     time.Time
	ended      bool // by the server
}

func main() {
	input := bufio.NewReaderSize(os.Stdin, 1<<20)
	var plan Plan
	line, err := input.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &plan)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "The first line must be the plan:", err)
		os.Exit(1)
	}
	clients := make([]*client, len(plan.Paths))
	for i := range clients {
		clients[i] = &client{plan: &plan, number: i}
		if i < plan.Slow {
			clients[i].pace = slow
		} else if i < plan.Slow+plan.Stuck {
			clients[i].pace = stuck
		}
	}
	say(connectAll(clients, plan.AtOnce))
	for {
		line, err := input.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		numbers := make([]float64, 2)
		for i, word := range words[1:] {
			numbers[i], _ = strconv.ParseFloat(word, 64)
		}
		switch words[0] {
		case "await":
			say(await(clients, int(numbers[0]), numbers[1]))
		case "cut":
			for _, c := range clients {
				c.cut()
			}
			say(map[string]any{"cut": len(clients)})
		case "return":
			say(connectAll(clients, len(clients)))
		}
	}
}

func say(answer map[string]any) {
	line, _ := json.Marshal(answer)
	fmt.Println(string(line))
}

func connectAll(clients []*client, atOnce int) map[string]any {
	began := time.Now()
	var failed []string
	var lock sync.Mutex
	var connecting sync.WaitGroup
	places := make(chan struct{}, max(atOnce, 1))
	for _, c := range clients {
		connecting.Add(1)
		places <- struct{}{}
		go func() {
			defer connecting.Done()
			if err := c.connect(); err != nil {
				lock.Lock()
				failed = append(failed, err.Error())
				lock.Unlock()
			}
			<-places
		}()
	}
	connecting.Wait()
	answer := map[string]any{
		"seconds": time.Since(began).Seconds(),
		"began":   float64(began.UnixNano()) / 1e9,
		"failed":  len(failed),
	}
	if len(failed) > 0 {
		answer["error"] = failed[0]
	}
	return answer
}

// connect returns when the answer has begun, and reads on; what fails is tried again for a while.
func (c *client) connect() error {
	var err error
	for attempt := 0; attempt < 20; attempt++ {
		if attempt > 0 {
			time.Sleep(time.Duration(attempt) * 50 * time.Millisecond)
		}
		if err = c.open(); err == nil {
			return nil
		}
	}
	return err
}

func (c *client) open() error {
	dialer := net.Dialer{
		Timeout:   60 * time.Second,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+c.number%sources))},
	}
	conn, err := dialer.Dial("tcp", c.plan.Address)
	if err != nil {
		return err
	}
	if c.pace != normal { // else the kernel would take megabytes for it
		conn.(*net.TCPConn).SetReadBuffer(4096)
	}
	request := "GET " + c.plan.Paths[c.number] + " HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
	if c.lastID != "" {
		request += "Last-Event-ID: " + c.lastID + "\r\n"
	}
	conn.SetDeadline(time.Now().Add(120 * time.Second))
	if _, err = io.WriteString(conn, request+"\r\n"); err != nil {
		conn.Close()
		return err
	}
	body, err := answer(bufio.NewReader(conn))
	if err != nil {
		conn.Close()
		return err
	}
	conn.SetDeadline(time.Time{})
	c.Lock()
	c.conn, c.ended = conn, false
	c.Unlock()
	go c.read(conn, body)
	return nil
}

// answer reads the head of it and returns its body. Of net/http it would be shorter, and built
// in a minute instead of some seconds where nothing is cached.
func answer(from *bufio.Reader) (io.Reader, error) {
	status, err := from.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if words := strings.Fields(status); len(words) < 2 || words[1] != "200" {
		return nil, fmt.Errorf("answered %q", strings.TrimSpace(status))
	}
	var body io.Reader = from
	for {
		line, err := from.ReadString('\n')
		if err != nil {
			return nil, err
		}
		line = strings.ToLower(strings.TrimSpace(line))
		if line == "" {
			return body, nil
		}
		if line == "transfer-encoding: chunked" {
			body = &chunks{from: from}
		}
	}
}

// chunks is what is in the chunks of a body.
type chunks struct {
	from *bufio.Reader
	left int
}

func (c *chunks) Read(buffer []byte) (int, error) {
	for c.left == 0 {
		line, err := c.from.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 { // the end of the chunk before
			continue
		}
		size, err := strconv.ParseInt(string(line), 16, 32)
		if err != nil || size == 0 {
			return 0, io.EOF
		}
		c.left = int(size)
	}
	n, err := c.from.Read(buffer[:min(len(buffer), c.left)])
	c.left -= n
	return n, err
}

// cut closes without a farewell, as a network that goes away.
func (c *client) cut() {
	c.Lock()
	defer c.Unlock()
	if c.conn != nil {
		c.conn.(*net.TCPConn).SetLinger(0)
		c.conn.Close()
		c.conn = nil
	}
}

func (c *client) read(conn net.Conn, body io.Reader) {
	switch c.pace {
	case stuck:
		return
	case slow:
		body = slowly{body}
	}
	lines := bufio.NewReader(body)
	var id string
	for {
		line, err := lines.ReadSlice('\n')
		if err == bufio.ErrBufferFull { // the rest of a long line is only padding
			line = bytes.Clone(line)
			for err == bufio.ErrBufferFull {
				_, err = lines.ReadSlice('\n')
			}
		}
		now := time.Now()
		switch {
		case err != nil:
		case bytes.HasPrefix(line, []byte("id:")):
			id = string(bytes.TrimSpace(line[3:]))
		case len(line) > 2 && bytes.IndexByte(line, '@') >= 0:
			c.count(conn, line, now)
		case len(bytes.TrimSpace(line)) == 0 && id != "":
			c.Lock()
			if c.conn == conn {
				c.lastID = id
			}
			c.Unlock()
			id = ""
		}
		if err != nil {
			c.Lock()
			c.ended = c.ended || c.conn == conn
			c.Unlock()
			return
		}
	}
}

func (c *client) count(conn net.Conn, line []byte, now time.Time) {
	parts := bytes.SplitN(line, []byte("@"), 4)
	if len(parts) < 4 {
		return
	}
	number, err := strconv.Atoi(string(parts[1]))
	at, err2 := strconv.ParseInt(string(parts[2]), 10, 64)
	if err != nil || err2 != nil || number < 1 {
		return
	}
	c.Lock()
	defer c.Unlock()
	if c.conn != conn { // it was cut meanwhile
		return
	}
	for len(c.seen) <= number {
		c.seen = append(c.seen, false)
	}
	if c.seen[number] {
		c.duplicates++
		return
	}
	if number < c.last {
		c.disordered++
	}
	c.last = max(c.last, number)
	c.seen[number] = true
	c.events++
	c.latencies = append(c.latencies, float64(now.UnixNano()-at)/1e6)
	c.lastAt = now
}

func await(clients []*client, count int, seconds float64) map[string]any {
	deadline := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	waiting := slices.Clone(clients)
	for time.Now().Before(deadline) {
		waiting = slices.DeleteFunc(waiting, func(c *client) bool {
			c.Lock()
			defer c.Unlock()
			return c.pace != normal || c.events >= count
		})
		if len(waiting) == 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	var latencies []float64
	var last time.Time
	missing, disordered, duplicates, slowEvents, ended := 0, 0, 0, 0, 0
	for _, c := range clients {
		c.Lock()
		if c.ended {
			ended++
		}
		if c.pace == normal {
			missing += max(0, count-c.events)
			disordered += c.disordered
			duplicates += c.duplicates
			latencies = append(latencies, c.latencies...)
			if c.lastAt.After(last) {
				last = c.lastAt
			}
		} else {
			slowEvents += c.events
		}
		c.latencies = c.latencies[:0]
		c.Unlock()
	}
	slices.Sort(latencies)
	at := func(share float64) float64 {
		if len(latencies) == 0 {
			return -1
		}
		return latencies[min(int(share*float64(len(latencies))), len(latencies)-1)]
	}
	return map[string]any{
		"events": len(latencies), "missing": missing, "disordered": disordered,
		"duplicates": duplicates, "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1),
		"last": float64(last.UnixNano()) / 1e9, "slow_events": slowEvents, "ended": ended,
	}
}

// slowly reads 1 KB a second.
type slowly struct{ io.Reader }

func (s slowly) Read(buffer []byte) (int, error) {
	time.Sleep(time.Second / 4)
	return s.Reader.Read(buffer[:min(len(buffer), slowBytes/4)])
}
