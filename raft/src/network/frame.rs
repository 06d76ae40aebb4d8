//! Messages on a stream: four bytes of length, little-endian, and a value in the format of `postcard`. What a snapshot is of
//! is such a message, and its bytes follow as they are.

use super::Limits;
use demikernel::net::TcpStream;
use demikernel::time::timeout;
use demikernel::{Buffer, Sga};
use futures_util::{AsyncRead, AsyncReadExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

/// What a connection begins with: who speaks something else is found out at once.
pub(super) const GREETING: &[u8; 8] = b"dkraft1\n";

/// How many bytes are read at once at most, and so how much memory a peer gets for none.
const PIECE: usize = 64 << 10;

pub(super) fn invalid(text: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_string())
}

/// A message as bytes, with its length.
pub(super) fn encode<T: Serialize>(value: &T) -> io::Result<Buffer> {
    let mut bytes = postcard::to_extend(value, vec![0; 4]).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(Buffer::from(bytes))
}

/// A request as bytes, unless the other end would refuse it for its length.
pub(super) fn encode_within<T: Serialize>(value: &T, limits: &Limits) -> io::Result<Buffer> {
    let message = encode(value)?;
    if message.len() - 4 > limits.message {
        return Err(invalid(format!("a request of {} bytes is longer than the limit", message.len())));
    }
    Ok(message)
}

/// Reads a message. The first bytes may take their time, those behind them may not stall.
///
/// # Errors
/// `InvalidData` for one that is too long or no message, `TimedOut` for one that stalls.
pub(super) async fn receive<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    limits: &Limits,
) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length[..1]).await?;
    timeout(limits.stall, stream.read_exact(&mut length[1..])).await??;
    let length = u32::from_le_bytes(length) as usize;
    if length > limits.message {
        return Err(invalid(format!("a message of {length} bytes, of which {} are allowed", limits.message)));
    }
    let bytes = receive_bytes(stream, length, limits).await?;
    postcard::from_bytes(&bytes).map_err(|error| invalid(format!("no message: {error}")))
}

/// Reads so many bytes. Memory is taken as they come.
pub(super) async fn receive_bytes(
    stream: &mut (impl AsyncRead + Unpin),
    length: usize,
    limits: &Limits,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let at = bytes.len();
        bytes.resize(at + PIECE.min(length - at), 0);
        timeout(limits.stall, stream.read_exact(&mut bytes[at..])).await??;
    }
    Ok(bytes)
}

/// Sends bytes in pieces, none of which may stall.
pub(super) async fn send_bytes(stream: &TcpStream, bytes: Vec<u8>, limits: &Limits) -> io::Result<()> {
    let bytes = Buffer::from(bytes);
    for at in (0..bytes.len()).step_by(PIECE) {
        let piece = bytes.slice(at..bytes.len().min(at + PIECE));
        timeout(limits.stall, stream.push_sga(Sga::from(piece))).await??;
    }
    Ok(())
}
