//! What bench/runtime/micro.cpp measures for tasks, for tokio's on its current_thread runtime: the same
//! operations under the same names, where tokio has them.

use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, Mutex, Notify, Semaphore};
use tokio::task::{spawn, yield_now, JoinHandle};
use tokio::time::{sleep, timeout, Sleep};

const REPETITIONS: usize = 9;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn print(name: &str, value: f64, unit: &str) {
    println!("{name:<50}  {value:9.2} {unit}");
}

fn measure<Body, Done>(name: &str, operations: usize, body: Body)
where
    Body: Fn(usize) -> Done,
    Done: Future<Output = ()>,
{
    let runtime = runtime();
    runtime.block_on(body(operations / 10));
    let mut samples: Vec<f64> = (0..REPETITIONS)
        .map(|_| {
            let from = Instant::now();
            runtime.block_on(body(operations));
            from.elapsed().as_nanos() as f64 / operations as f64
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    print(name, samples[REPETITIONS / 2], "ns");
}

async fn both(one: JoinHandle<()>, other: JoinHandle<()>) {
    one.await.expect("joins");
    other.await.expect("joins");
}

async fn spawn_and_join(operations: usize) {
    let mut sum = 0;
    for i in 0..operations {
        sum += spawn(async move { i }).await.expect("joins");
    }
    std::hint::black_box(sum);
}

async fn spawn_and_join_batches(operations: usize) {
    let mut handles = Vec::with_capacity(1000);
    for _ in 0..operations / 1000 {
        handles.extend((0..1000).map(|_| spawn(async {})));
        for handle in handles.drain(..) {
            handle.await.expect("joins");
        }
    }
}

async fn yield_in_turn(operations: usize) {
    let often = move || async move {
        for _ in 0..operations / 2 {
            yield_now().await;
        }
    };
    both(spawn(often()), spawn(often())).await;
}

async fn await_with_timeout(operations: usize) {
    let mut sum = 0;
    for i in 0..operations {
        sum += timeout(Duration::from_secs(30), async { i }).await.expect("in time");
    }
    std::hint::black_box(sum);
}

async fn lock_free_mutex(operations: usize) {
    let one = Mutex::new(());
    for _ in 0..operations {
        let _held = one.lock().await;
    }
}

async fn hand_mutex_over(operations: usize) {
    let one = Arc::new(Mutex::new(()));
    let often = |one: Arc<Mutex<()>>| async move {
        for _ in 0..operations / 2 {
            let _held = one.lock().await;
            yield_now().await;
        }
    };
    both(spawn(often(one.clone())), spawn(often(one))).await;
}

async fn acquire_free_semaphore(operations: usize) {
    let two = Semaphore::new(2);
    for _ in 0..operations {
        let _permit = two.acquire().await.expect("open");
    }
}

async fn set_wait_clear_event(operations: usize) {
    let flag = Notify::new();
    for _ in 0..operations {
        flag.notify_one();
        flag.notified().await;
    }
}

async fn put_and_get(operations: usize) {
    let (put, mut get) = mpsc::channel(1024);
    for i in 0..operations {
        put.send(i).await.expect("open");
        std::hint::black_box(get.recv().await);
    }
}

async fn send_back(mut there: mpsc::Receiver<usize>, back: mpsc::Sender<usize>) {
    while let Some(number) = there.recv().await {
        back.send(number).await.expect("open");
    }
}

async fn ask(there: mpsc::Sender<usize>, mut back: mpsc::Receiver<usize>, times: usize) {
    for i in 0..times {
        there.send(i).await.expect("open");
        std::hint::black_box(back.recv().await);
    }
}

async fn ping_pong(operations: usize) {
    let (there, there_out) = mpsc::channel(1);
    let (back_in, back) = mpsc::channel(1);
    both(spawn(send_back(there_out, back_in)), spawn(ask(there, back, operations))).await;
}

/// Who answers has a thread and a runtime of its own.
async fn ping_pong_two_threads(operations: usize) {
    let (there, there_out) = mpsc::channel(1);
    let (back_in, back) = mpsc::channel(1);
    let other = std::thread::spawn(move || runtime().block_on(send_back(there_out, back_in)));
    spawn(ask(there, back, operations)).await.expect("joins");
    other.join().expect("joins");
}

/// A Sleep is armed by its first poll, and disarmed when it is dropped.
async fn arm(mut timer: Pin<&mut Sleep>) {
    poll_fn(|context| {
        let _ = timer.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}

async fn arm_and_cancel(operations: usize) {
    for _ in 0..operations {
        let timer = sleep(Duration::from_secs(30));
        tokio::pin!(timer);
        arm(timer).await;
    }
}

async fn arm_and_cancel_among_a_million(operations: usize) {
    let mut others: Vec<_> = (0..1_000_000u64)
        .map(|i| Box::pin(sleep(Duration::from_micros(60_000_000 + 60 * i))))
        .collect();
    for each in &mut others {
        arm(each.as_mut()).await;
    }
    let mut samples = Vec::new();
    for _ in 0..REPETITIONS {
        let from = Instant::now();
        arm_and_cancel(operations).await;
        samples.push(from.elapsed().as_nanos() as f64 / operations as f64);
    }
    samples.sort_by(f64::total_cmp);
    print("arm and cancel a timer among a million", samples[REPETITIONS / 2], "ns");
}

fn resident_bytes() -> f64 {
    let fields = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages = fields.split(' ').nth(1).and_then(|each| each.parse::<f64>().ok());
    pages.expect("a number") * 4096.0
}

/// Once in the life of the process: memory once used would be used again, and not seen.
async fn measure_sleepers() {
    const COUNT: usize = 1_000_000;
    let before = resident_bytes();
    for _ in 0..COUNT {
        spawn(sleep(Duration::from_secs(3600)));
    }
    for _ in 0..COUNT / 10 {
        yield_now().await; // until each of them has run, and sleeps
    }
    let each = (resident_bytes() - before) / COUNT as f64;
    print("resident memory per sleeping task", each, "bytes");
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("sleepers") {
        return runtime().block_on(measure_sleepers());
    }
    measure("spawn and join one task", 1_000_000, spawn_and_join);
    measure("spawn and join, in batches of 1000, a task", 1_000_000, spawn_and_join_batches);
    measure("yield between two tasks", 2_000_000, yield_in_turn);
    measure("await such a task with a timeout", 1_000_000, await_with_timeout);
    measure("lock and unlock a free mutex", 5_000_000, lock_free_mutex);
    measure("hand a mutex over to a waiting task, and yield", 1_000_000, hand_mutex_over);
    measure("acquire and release a free semaphore", 5_000_000, acquire_free_semaphore);
    measure("set, wait for and clear an event", 2_000_000, set_wait_clear_event);
    measure("put into a queue and get", 1_000_000, put_and_get);
    measure("channel round trip, one thread", 1_000_000, ping_pong);
    measure("arm and cancel a timer", 1_000_000, arm_and_cancel);
    runtime().block_on(arm_and_cancel_among_a_million(1_000_000));
    measure("channel round trip, two threads", 20_000, ping_pong_two_threads);
}
