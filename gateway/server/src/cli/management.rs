//! Asking the gateway that runs, over its management listener.

use crate::config::ManagementListen;
use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer that is read whole.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Asks for a path and reads the answer whole; none where no gateway listens there.
pub(super) async fn get(listen: &ManagementListen, path: &str) -> anyhow::Result<Option<Bytes>> {
    let Some(body) = open(listen, path).await? else { return Ok(None) };
    let read = timeout(PATIENCE, Limited::new(body, MAX_ANSWER).collect()).await.context("the gateway is silent")?;
    Ok(Some(read.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes()))
}

/// Asks for a path; none where no gateway listens there.
pub(super) async fn open(listen: &ManagementListen, path: &str) -> anyhow::Result<Option<Incoming>> {
    match listen {
        ManagementListen::Tcp(address) => match TcpStream::connect(address).await {
            Ok(stream) => ask(stream, path).await.map(Some),
            Err(_) => Ok(None),
        },
        ManagementListen::Unix(file) => match UnixStream::connect(file).await {
            Ok(stream) => ask(stream, path).await.map(Some),
            Err(_) => Ok(None),
        },
    }
}

async fn ask(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, path: &str) -> anyhow::Result<Incoming> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header(header::HOST, "localhost").body(Empty::<Bytes>::new())?;
    let answer = timeout(PATIENCE, sender.send_request(request)).await.context("the gateway is silent")??;
    if answer.status() != StatusCode::OK {
        bail!("the gateway's management answers {} to {path}", answer.status().as_u16());
    }
    Ok(answer.into_body())
}
