// The work of some benchmarks, in Go: prints the nanoseconds that so many operations took.
//
// A tenth of the operations comes before, as a warm-up. Answers are checked.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

var works = map[string]func(uint64) time.Duration{
	"fanin":       fanin,
	"mutex":       mutex,
	"pingpong0":   func(n uint64) time.Duration { return pingpong(n, 0) },
	"pingpong1":   func(n uint64) time.Duration { return pingpong(n, 1) },
	"skynet":      skynet,
	"spawn_join":  spawnJoin,
	"steal":       steal,
	"yield2":      func(n uint64) time.Duration { return yield(n, 2) },
	"yield1000":   func(n uint64) time.Duration { return yield(n, 1000) },
}

func main() {
	if len(os.Args) != 3 {
		fail("usage: WORK OPERATIONS")
	}
	work, operations := works[os.Args[1]], os.Args[2]
	n, err := strconv.ParseUint(operations, 10, 64)
	if work == nil || err != nil || n == 0 {
		fail(fmt.Sprintf("no such work, or number: %q", os.Args[1:]))
	}
	work((n + 9) / 10)
	fmt.Println(work(n).Nanoseconds())
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(2)
}

func check(found, expected uint64) {
	if found != expected {
		fail(fmt.Sprintf("%d instead of %d", found, expected))
	}
}

// The time for n operations, from that for more or fewer.
func scaled(took time.Duration, n, done uint64) time.Duration {
	return time.Duration(float64(took) * float64(n) / float64(done))
}

func fanin(messages uint64) time.Duration {
	const producers, capacity = 100, 64
	share := (messages + producers - 1) / producers
	started := time.Now()
	values := make(chan uint64, capacity)
	var sending sync.WaitGroup
	sending.Add(producers)
	for i := 0; i < producers; i++ {
		go func() {
			for n := uint64(0); n < share; n++ {
				values <- n
			}
			sending.Done()
		}()
	}
	go func() {
		sending.Wait()
		close(values)
	}()
	sum := uint64(0)
	for n := range values {
		sum += n
	}
	took := time.Since(started)
	check(sum, producers*(share*(share-1)/2))
	return scaled(took, messages, producers*share)
}

func mutex(locks uint64) time.Duration {
	const threads = 100
	each := (locks + threads - 1) / threads
	var lock sync.Mutex
	var done sync.WaitGroup
	sum := uint64(0)
	started := time.Now()
	done.Add(threads)
	for i := 0; i < threads; i++ {
		go func() {
			for n := uint64(0); n < each; n++ {
				lock.Lock()
				sum++
				lock.Unlock()
			}
			done.Done()
		}()
	}
	done.Wait()
	took := time.Since(started)
	check(sum, threads*each)
	return scaled(took, locks, threads*each)
}

func pingpong(rounds uint64, capacity int) time.Duration {
	there, back := make(chan uint64, capacity), make(chan uint64, capacity)
	go func() {
		for n := range there {
			back <- n + 1
		}
		close(back)
	}()
	result := make(chan time.Duration)
	go func() {
		started := time.Now()
		n := uint64(0)
		for i := uint64(0); i < rounds; i++ {
			there <- n
			n = <-back
		}
		took := time.Since(started)
		check(n, rounds)
		close(there)
		result <- took
	}()
	return <-result
}

func skynet(leaves uint64) time.Duration {
	size := uint64(1)
	for size*10 <= leaves {
		size *= 10
	}
	answer := make(chan uint64, 1)
	started := time.Now()
	go node(answer, 0, size)
	sum := <-answer
	took := time.Since(started)
	check(sum, size*(size-1)/2)
	return scaled(took, leaves, size)
}

func node(answer chan<- uint64, first, size uint64) {
	if size == 1 {
		answer <- first
		return
	}
	answers := make(chan uint64, 10)
	for child := uint64(0); child < 10; child++ {
		go node(answers, first+child*(size/10), size/10)
	}
	sum := uint64(0)
	for child := 0; child < 10; child++ {
		sum += <-answers
	}
	answer <- sum
}

func spawnJoin(spawns uint64) time.Duration {
	started := time.Now()
	results := make([]uint64, spawns)
	var done sync.WaitGroup
	done.Add(int(spawns))
	for n := uint64(0); n < spawns; n++ {
		n := n
		go func() {
			results[n] = n + 1
			done.Done()
		}()
	}
	done.Wait()
	took := time.Since(started)
	sum := uint64(0)
	for _, n := range results {
		sum += n
	}
	check(sum, spawns*(spawns+1)/2)
	return took
}

func steal(tasks uint64) time.Duration {
	result := make(chan time.Duration)
	go func() {
		var done uint64
		started := time.Now()
		// The last one may be kept for who has started it.
		for n := uint64(0); n <= tasks; n++ {
			go atomic.AddUint64(&done, 1)
		}
		for atomic.LoadUint64(&done) < tasks {
		}
		result <- time.Since(started)
	}()
	return <-result
}

func yield(yields uint64, threads int) time.Duration {
	each := (yields + uint64(threads) - 1) / uint64(threads)
	var turns uint64
	var done sync.WaitGroup
	done.Add(threads)
	started := time.Now()
	for i := 0; i < threads; i++ {
		go func() {
			for n := uint64(0); n < each; n++ {
				turns++
				runtime.Gosched()
			}
			done.Done()
		}()
	}
	done.Wait()
	took := time.Since(started)
	check(turns, uint64(threads)*each)
	return scaled(took, yields, uint64(threads)*each)
}
