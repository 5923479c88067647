// What goroutines wait for each other with, as bench/micro.cpp measures it for tasks: the same
// operations, where Go has them.
package main

import (
	"fmt"
	"runtime"
	"sort"
	"sync"
	"time"
)

const repetitions = 9

func measure(name string, operations int, body func(int)) {
	samples := make([]float64, 0, repetitions)
	body(operations / 10)
	for i := 0; i < repetitions; i++ {
		from := time.Now()
		body(operations)
		samples = append(samples, float64(time.Since(from).Nanoseconds())/float64(operations))
	}
	sort.Float64s(samples)
	fmt.Printf("%-50s  %9.2f ns\n", name, samples[repetitions/2])
}

func lockFreeMutex(operations int) {
	var one sync.Mutex
	for i := 0; i < operations; i++ {
		one.Lock()
		one.Unlock()
	}
}

func handMutexOver(operations int) {
	var one sync.Mutex
	var all sync.WaitGroup
	for g := 0; g < 2; g++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := 0; i < operations/2; i++ {
				one.Lock()
				runtime.Gosched()
				one.Unlock()
			}
		}()
	}
	all.Wait()
}

// A buffered channel is Go's semaphore.
func acquireFreeSemaphore(operations int) {
	two := make(chan struct{}, 2)
	for i := 0; i < operations; i++ {
		two <- struct{}{}
		<-two
	}
}

func putAndGet(operations int) {
	items := make(chan int, 1024)
	for i := 0; i < operations; i++ {
		items <- i
		<-items
	}
}

func pingPong(operations int) {
	there := make(chan int)
	back := make(chan int)
	go func() {
		for number := range there {
			back <- number
		}
	}()
	for i := 0; i < operations; i++ {
		there <- i
		<-back
	}
	close(there)
}

func main() {
	runtime.GOMAXPROCS(1)
	measure("lock and unlock a free mutex", 5_000_000, lockFreeMutex)
	measure("hand a mutex over to a waiting goroutine, and yield", 1_000_000, handMutexOver)
	measure("acquire and release a free semaphore", 5_000_000, acquireFreeSemaphore)
	measure("put into a queue and get", 1_000_000, putAndGet)
	measure("channel round trip, one thread", 1_000_000, pingPong)
	runtime.GOMAXPROCS(2)
	measure("channel round trip, two threads", 100_000, pingPong)
}
