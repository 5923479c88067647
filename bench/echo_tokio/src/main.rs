//! Echo server on tokio's current_thread runtime, written as its users write it: a task and a
//! buffer for each connection.
//!
//!     echo_tokio --port 5566      ends at SIGTERM

use std::io::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Options {
    host: String,
    port: u16,
    buffer: usize,
    discard: bool,
}

fn parse() -> Result<Options> {
    let mut options =
        Options { host: "127.0.0.1".into(), port: 0, buffer: 4096, discard: false };
    let mistake = |what: &str| Error::new(ErrorKind::InvalidInput, what.to_string());
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--discard" {
            options.discard = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| mistake(&name))?;
        match name.as_str() {
            "--host" => options.host = value,
            "--port" => options.port = value.parse().map_err(|_| mistake(&value))?,
            "--buffer" => options.buffer = value.parse().map_err(|_| mistake(&value))?,
            _ => return Err(mistake(&name)),
        }
    }
    Ok(options)
}

async fn echo(mut client: TcpStream, size: usize, discard: bool) {
    let mut buffer = vec![0u8; size];
    loop {
        let length = match client.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        if !discard && client.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn serve(options: Options) -> Result<()> {
    let listener = TcpListener::bind((options.host.as_str(), options.port)).await?;
    println!("listening on {} (tokio)", listener.local_addr()?);
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        tokio::spawn(echo(client, options.buffer, options.discard));
    }
}

fn main() -> Result<()> {
    let options = parse()?;
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(options))
}
