//! An IP host in virtual time, with no device: packets go in and come out as bytes.

use crate::device::{Capabilities, Frame, Medium};
use crate::ip::addresses::Address;
use crate::stack::{OptionName, Readiness, Shutdown, SocketId, SocketOption, Stack, StackConfig};
use crate::tcp::{self, Info};
use crate::udp::Datagram;
use demikernel_runtime::buffer::{Buffer, Sga};
use demikernel_runtime::random::Random;
use demikernel_runtime::time::Instant;
use demikernel_runtime::transport::{Domain, SocketKind};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Packets that wait to be extracted: further ones are lost, as on a link that nobody empties.
const OUT: usize = 1 << 16;

/// How a host is made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostConfig {
    /// Its addresses, and how many bits of each are those of its network.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The largest IP packet.
    pub mtu: usize,
    /// All that is random follows from it.
    pub seed: u64,
    /// Of TCP.
    pub tcp: tcp::Config,
    /// When time begins.
    pub start: Instant,
    /// Whether packets are sent in several pieces of memory, which only matters where they [pass](Host::pass_through)
    /// something.
    pub scatter: bool,
    /// Octets of payload in segments that the link would cut; 0 if it cuts none, so that a packet is what a wire has.
    pub segmentation: usize,
    /// Connections that are half open before SYN cookies take their place.
    pub half_open: u32,
}

impl HostConfig {
    /// A host with these addresses, an MTU of 1500, and a time that begins at a second.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> HostConfig {
        let addresses =
            addresses.into_iter().map(|address| (address, if address.is_ipv4() { 24 } else { 64 }));
        HostConfig {
            addresses: addresses.collect(),
            mtu: 1500,
            seed: 0,
            tcp: tcp::Config::default(),
            start: Instant::from_nanos(1_000_000_000),
            scatter: false,
            segmentation: 0,
            half_open: 1024,
        }
    }

    /// With this seed.
    #[must_use]
    pub fn seed(self, seed: u64) -> HostConfig {
        HostConfig { seed, ..self }
    }

    /// With this MTU.
    #[must_use]
    pub fn mtu(self, mtu: usize) -> HostConfig {
        HostConfig { mtu, ..self }
    }

    /// With this configuration of TCP.
    #[must_use]
    pub fn tcp(self, tcp: tcp::Config) -> HostConfig {
        HostConfig { tcp, ..self }
    }
}

/// What frames pass through.
type Passage = Box<dyn FnMut(&mut Vec<Frame>)>;

/// One IP host in virtual time.
///
/// Time stands still but in [`advance_to`](Host::advance_to). All that is not among its own addresses is on the other
/// side of the link. Sockets are small numbers, as descriptors are, and none of their calls waits.
///
/// ```
/// use demikernel_net::sim::{Host, HostConfig};
/// use demikernel_runtime::transport::{Domain, SocketKind};
///
/// let mut client = Host::new(HostConfig::new(["10.0.0.1".parse().unwrap()]));
/// let mut server = Host::new(HostConfig::new(["10.0.0.2".parse().unwrap()]));
/// let listener = server.socket(Domain::V4, SocketKind::Stream).unwrap();
/// server.bind(listener, "10.0.0.2:80".parse().unwrap()).unwrap();
/// server.listen(listener, 8).unwrap();
///
/// let socket = client.socket(Domain::V4, SocketKind::Stream).unwrap();
/// let error = client.connect(socket, "10.0.0.2:80".parse().unwrap()).unwrap_err();
/// assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
/// loop {
///     let (there, back) = (client.extract(), server.extract());
///     if there.is_none() && back.is_none() {
///         break;
///     }
///     there.iter().for_each(|packet| server.inject(packet));
///     back.iter().for_each(|packet| client.inject(packet));
/// }
/// assert!(client.readiness(socket).unwrap().writable);
/// assert!(server.accept(listener).is_ok());
/// ```
pub struct Host {
    stack: Stack,
    now: Instant,
    sockets: Vec<Option<SocketId>>,
    out: VecDeque<Vec<u8>>,
    lost: u64,
    burst: Vec<Frame>,
    passage: Option<Passage>,
}

impl Host {
    /// A host without sockets.
    pub fn new(config: HostConfig) -> Host {
        let mut capabilities = Capabilities::new(Medium::Ip, config.mtu);
        (capabilities.segmentation, capabilities.scatter) = (config.segmentation, config.scatter);
        let mut random = Random::new(config.seed, 0x686f_7374);
        let mut key = [0; 32];
        key.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&random.next().to_le_bytes()));
        let mut stack = StackConfig::new(capabilities, key);
        stack.addresses = config.addresses.iter().map(|(ip, length)| Address::fixed(*ip, *length)).collect();
        stack.tcp = config.tcp;
        stack.limits.half_open = config.half_open;
        for router in [IpAddr::from([0u8; 4]), IpAddr::from([0u16; 8])] {
            // The other side of the link is everybody.
            stack = stack.gateway(router);
        }
        Host {
            stack: Stack::new(config.start, stack),
            now: config.start,
            sockets: Vec::new(),
            out: VecDeque::new(),
            lost: 0,
            burst: Vec::new(),
            passage: None,
        }
    }

    /// Has all frames that come in and go out pass through something first, in no time and in their order, such as the
    /// memory of a device.
    pub fn pass_through(&mut self, passage: impl FnMut(&mut Vec<Frame>) + 'static) {
        self.passage = Some(Box::new(passage));
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Lets time pass, and what is due happen when it is.
    ///
    /// # Panics
    /// If that time is over.
    pub fn advance_to(&mut self, time: Instant) {
        assert!(time >= self.now, "time goes one way");
        while let Some(next) = self.next_deadline().filter(|next| *next <= time) {
            self.now = self.now.max(next);
            self.stack.handle_deadlines(self.now);
            self.pump();
        }
        self.now = time;
    }

    /// When something is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.stack.next_deadline()
    }

    /// An IP packet comes in.
    pub fn inject(&mut self, packet: &[u8]) {
        let Ok(head) = Buffer::copy_from_slice(packet) else {
            self.lost += 1;
            return;
        };
        self.burst.push(Frame::new(head));
        self.passage.iter_mut().for_each(|passage| passage(&mut self.burst));
        self.stack.receive(self.now, &mut self.burst);
        self.pump();
    }

    /// The next IP packet that goes out: one for each segment, as on the wire.
    pub fn extract(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// The stack, for its counters.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Packets that were lost as nobody extracted what was before them, or there was no memory.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Sockets that are open.
    pub fn open(&self) -> usize {
        self.sockets.iter().flatten().count()
    }

    /// Everything that is to go out goes; what is for ourselves is received.
    fn pump(&mut self) {
        loop {
            let count = self.stack.transmit(self.now, &mut self.burst);
            self.passage.iter_mut().for_each(|passage| passage(&mut self.burst));
            for frame in self.burst.drain(..) {
                if self.out.len() >= OUT {
                    self.lost += 1;
                    continue;
                }
                let mut bytes = Vec::with_capacity(frame.len());
                frame.copy_to(&mut bytes);
                self.out.push_back(bytes);
            }
            self.stack.receive(self.now, &mut self.burst);
            while self.stack.poll_event().is_some() {}
            if count == 0 && !self.stack.is_busy() {
                return;
            }
        }
    }

    fn id(&self, socket: usize) -> io::Result<SocketId> {
        let id = self.sockets.get(socket).copied().flatten();
        id.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// The lowest number that is free, as for descriptors.
    fn number(&mut self, id: SocketId) -> usize {
        let free = self.sockets.iter().position(Option::is_none).unwrap_or(self.sockets.len());
        if free == self.sockets.len() {
            self.sockets.push(None);
        }
        self.sockets[free] = Some(id);
        free
    }
}

/// Calls on sockets: see those of [`Stack`] for what each does, and for the errors.
#[allow(clippy::missing_errors_doc, reason = "each has those of the call of the same name of the stack")]
impl Host {
    /// Makes a socket: the lowest number that is free.
    pub fn socket(&mut self, domain: Domain, kind: SocketKind) -> io::Result<usize> {
        let id = self.stack.socket(domain, kind)?;
        Ok(self.number(id))
    }

    /// See [`Stack::bind`].
    pub fn bind(&mut self, socket: usize, address: SocketAddr) -> io::Result<()> {
        let id = self.id(socket)?;
        self.stack.bind(id, address)
    }

    /// See [`Stack::listen`].
    pub fn listen(&mut self, socket: usize, backlog: u32) -> io::Result<()> {
        let id = self.id(socket)?;
        self.stack.listen(id, backlog)
    }

    /// See [`Stack::connect`].
    pub fn connect(&mut self, socket: usize, address: SocketAddr) -> io::Result<()> {
        let id = self.id(socket)?;
        let result = self.stack.connect(self.now, id, address);
        self.pump();
        result
    }

    /// See [`Stack::accept`].
    pub fn accept(&mut self, socket: usize) -> io::Result<(usize, SocketAddr)> {
        let id = self.id(socket)?;
        let (id, peer) = self.stack.accept(id)?;
        Ok((self.number(id), peer))
    }

    /// Sends a copy of as much as there is room for. See [`Stack::send`].
    pub fn send(&mut self, socket: usize, data: &[u8]) -> io::Result<usize> {
        let id = self.id(socket)?;
        let mut list = Sga::from(self.copy(data)?);
        let result = self.stack.send(self.now, id, &mut list);
        self.pump();
        result
    }

    /// The same for urgent data. See [`Stack::send_urgent`].
    pub fn send_urgent(&mut self, socket: usize, data: &[u8]) -> io::Result<usize> {
        let id = self.id(socket)?;
        let mut list = Sga::from(self.copy(data)?);
        let result = self.stack.send_urgent(self.now, id, &mut list);
        self.pump();
        result
    }

    /// How far urgent data go. See [`Stack::urgent`].
    pub fn urgent(&mut self, socket: usize) -> io::Result<Option<u32>> {
        let id = self.id(socket)?;
        self.stack.urgent(id)
    }

    /// Sends a datagram. See [`Stack::send_to`].
    pub fn sendto(&mut self, socket: usize, data: &[u8], address: SocketAddr) -> io::Result<usize> {
        let id = self.id(socket)?;
        let data = Sga::from(self.copy(data)?);
        let result = self.stack.send_to(self.now, id, &data, Some(address));
        self.pump();
        result
    }

    fn copy(&self, data: &[u8]) -> io::Result<Buffer> {
        Buffer::copy_from_slice(data).map_err(|_| io::Error::from_raw_os_error(libc::ENOBUFS))
    }

    /// At most `most` bytes of what has come; none at the end. See [`Stack::recv`].
    pub fn recv(&mut self, socket: usize, most: usize) -> io::Result<Vec<u8>> {
        let id = self.id(socket)?;
        let result = self.stack.recv(self.now, id, most).map(|data| data.to_vec());
        self.pump();
        result
    }

    /// The next datagram, and whom it is from. See [`Stack::recv_from`].
    pub fn recvfrom(&mut self, socket: usize, most: usize) -> io::Result<(Vec<u8>, SocketAddr)> {
        let id = self.id(socket)?;
        let Datagram { mut payload, source, .. } = self.stack.recv_from(id)?;
        payload.truncate(most);
        Ok((payload.to_vec(), source))
    }

    /// See [`Stack::shutdown`].
    pub fn shutdown(&mut self, socket: usize, how: Shutdown) -> io::Result<()> {
        let id = self.id(socket)?;
        let result = self.stack.shutdown(self.now, id, how);
        self.pump();
        result
    }

    /// See [`Stack::close`]. The number is free at once.
    pub fn close(&mut self, socket: usize) -> io::Result<()> {
        let id = self.id(socket)?;
        self.sockets[socket] = None;
        let result = self.stack.close(self.now, id);
        self.pump();
        result
    }

    /// See [`Stack::abort`].
    pub fn abort(&mut self, socket: usize) -> io::Result<()> {
        let id = self.id(socket)?;
        self.sockets[socket] = None;
        let result = self.stack.abort(self.now, id);
        self.pump();
        result
    }

    /// See [`Stack::local`].
    pub fn local(&mut self, socket: usize) -> io::Result<SocketAddr> {
        let id = self.id(socket)?;
        self.stack.local(id)
    }

    /// See [`Stack::peer`].
    pub fn peer(&mut self, socket: usize) -> io::Result<SocketAddr> {
        let id = self.id(socket)?;
        self.stack.peer(id)
    }

    /// See [`Stack::join`].
    pub fn join(&mut self, socket: usize, group: IpAddr) -> io::Result<()> {
        let id = self.id(socket)?;
        self.stack.join(self.now, id, group)
    }

    /// See [`Stack::leave`].
    pub fn leave(&mut self, socket: usize, group: IpAddr) -> io::Result<()> {
        let id = self.id(socket)?;
        self.stack.leave(self.now, id, group)
    }

    /// See [`Stack::readiness`].
    pub fn readiness(&mut self, socket: usize) -> io::Result<Readiness> {
        let id = self.id(socket)?;
        self.stack.readiness(id)
    }

    /// See [`Stack::take_error`].
    pub fn take_error(&mut self, socket: usize) -> io::Result<Option<io::Error>> {
        let id = self.id(socket)?;
        self.stack.take_error(id)
    }

    /// See [`Stack::set_option`].
    pub fn set_option(&mut self, socket: usize, option: &SocketOption) -> io::Result<()> {
        let id = self.id(socket)?;
        let result = self.stack.set_option(self.now, id, option);
        self.pump();
        result
    }

    /// See [`Stack::option`].
    pub fn get_option(&mut self, socket: usize, name: OptionName) -> io::Result<SocketOption> {
        let id = self.id(socket)?;
        self.stack.option(id, name)
    }

    /// See [`Stack::tcp_info`].
    pub fn tcp_info(&mut self, socket: usize) -> io::Result<Info> {
        let id = self.id(socket)?;
        self.stack.tcp_info(self.now, id)
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("now", &self.now).field("stack", &self.stack).finish_non_exhaustive()
    }
}
