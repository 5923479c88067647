// What bench/runtime/micro.cpp measures for tasks, for goroutines: the same operations under the same names,
// where Go has them.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

const repetitions = 9

func median(samples []float64) float64 {
	sort.Float64s(samples)
	return samples[len(samples)/2]
}

func measure(name string, operations int, body func(int)) {
	samples := make([]float64, 0, repetitions)
	body(operations / 10)
	for i := 0; i < repetitions; i++ {
		from := time.Now()
		body(operations)
		samples = append(samples, float64(time.Since(from).Nanoseconds())/float64(operations))
	}
	fmt.Printf("%-50s  %9.2f ns\n", name, median(samples))
}

func spawnAndJoin(operations int) {
	sum := 0
	for i := 0; i < operations; i++ {
		answer := make(chan int, 1)
		go func(value int) { answer <- value }(i)
		sum += <-answer
	}
	runtime.KeepAlive(sum)
}

func spawnAndJoinBatches(operations int) {
	const batch = 1000
	for done := 0; done < operations; done += batch {
		var all sync.WaitGroup
		all.Add(batch)
		for i := 0; i < batch; i++ {
			go all.Done()
		}
		all.Wait()
	}
}

func yieldInTurn(operations int) {
	var all sync.WaitGroup
	all.Add(2)
	for g := 0; g < 2; g++ {
		go func() {
			defer all.Done()
			for i := 0; i < operations/2; i++ {
				runtime.Gosched()
			}
		}()
	}
	all.Wait()
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

// The same with each side on a thread of its own, as tasks on two schedulers are.
func pingPongTwoThreads(operations int) {
	var all sync.WaitGroup
	there := make(chan int)
	back := make(chan int)
	all.Add(2)
	go func() {
		defer all.Done()
		runtime.LockOSThread()
		for number := range there {
			back <- number
		}
	}()
	go func() {
		defer all.Done()
		runtime.LockOSThread()
		for i := 0; i < operations; i++ {
			there <- i
			<-back
		}
		close(there)
	}()
	all.Wait()
}

func armAndCancel(operations int) {
	for i := 0; i < operations; i++ {
		time.AfterFunc(30*time.Second, func() {}).Stop()
	}
}

func armAndCancelAmongAMillion() {
	others := make([]*time.Timer, 1_000_000)
	for i := range others {
		others[i] = time.AfterFunc(time.Hour+time.Duration(i)*time.Microsecond, func() {})
	}
	measure("arm and cancel a timer among a million", 1_000_000, armAndCancel)
	for _, each := range others {
		each.Stop()
	}
}

func residentBytes() int {
	fields, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		fmt.Fprintln(os.Stderr, "micro_go:", err)
		os.Exit(1)
	}
	pages, _ := strconv.Atoi(strings.Fields(string(fields))[1])
	return pages * os.Getpagesize()
}

// Once in the life of the process, and first: memory once used would be used again, and not seen.
func measureSleepers() {
	const count = 1_000_000
	before := residentBytes()
	var started sync.WaitGroup
	started.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			started.Done()
			time.Sleep(time.Hour)
		}()
	}
	started.Wait()
	for i := 0; i < 10; i++ {
		runtime.Gosched() // the last of them fall asleep
	}
	each := float64(residentBytes()-before) / count
	fmt.Printf("%-50s  %9.2f bytes\n", "resident memory per sleeping task", each)
}

func main() {
	runtime.GOMAXPROCS(1)
	if len(os.Args) == 2 && os.Args[1] == "sleepers" {
		measureSleepers()
		return
	}
	measure("spawn and join one task", 1_000_000, spawnAndJoin)
	measure("spawn and join, in batches of 1000, a task", 1_000_000, spawnAndJoinBatches)
	measure("yield between two tasks", 2_000_000, yieldInTurn)
	measure("lock and unlock a free mutex", 5_000_000, lockFreeMutex)
	measure("hand a mutex over to a waiting task, and yield", 1_000_000, handMutexOver)
	measure("acquire and release a free semaphore", 5_000_000, acquireFreeSemaphore)
	measure("put into a queue and get", 1_000_000, putAndGet)
	measure("channel round trip, one thread", 1_000_000, pingPong)
	measure("arm and cancel a timer", 1_000_000, armAndCancel)
	armAndCancelAmongAMillion()
	runtime.GOMAXPROCS(2)
	measure("channel round trip, two threads", 20_000, pingPongTwoThreads)
}
