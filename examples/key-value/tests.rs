use super::commands::Server;
use super::connection::{Connection, Next};
use super::store::Store;
use demikernel::Buffer;
use demikernel::time::{Duration, Instant};
use proptest::prelude::*;

const LIMIT: usize = 100_000;

/// A server with one client, without sockets and with a clock that the test sets.
struct Rig {
    store: Store,
    server: Server,
    connection: Connection,
    now: Instant,
}

impl Rig {
    fn new() -> Rig {
        let now = Instant::now();
        Rig {
            store: Store::default(),
            server: Server::new("none", now, 1),
            connection: Connection::new(7, LIMIT),
            now,
        }
    }

    /// Sends bytes as one received buffer: the replies, and whether the connection ended.
    fn send(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        self.connection.receive(Buffer::from(bytes.to_vec()));
        let mut replies = Vec::new();
        loop {
            let next = self.connection.run(&mut self.store, &mut self.server, self.now);
            replies.extend(self.connection.replies.take().to_vec());
            if next != Next::More {
                return (replies, next == Next::Close);
            }
        }
    }

    /// Sends a line as a person would: the replies, with `|` for the line ends.
    fn say(&mut self, line: &str) -> String {
        let (replies, _) = self.send(format!("{line}\r\n").as_bytes());
        String::from_utf8_lossy(&replies).replace("\r\n", "|")
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }
}

/// Plays requests and compares each reply.
fn play(script: &[(&str, &str)]) {
    let mut rig = Rig::new();
    for (line, reply) in script {
        assert_eq!(rig.say(line), *reply, "{line}");
    }
}

fn request(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[test]
fn strings() {
    play(&[
        ("PING", "+PONG|"),
        ("ping hello", "$5|hello|"),
        ("ECHO x", "$1|x|"),
        ("GET a", "$-1|"),
        ("SET a 1", "+OK|"),
        ("gEt a", "$1|1|"),
        ("SET a 2 NX", "$-1|"),
        ("SET b 2 XX", "$-1|"),
        ("SET b 2 NX", "+OK|"),
        ("SET a 3 XX GET", "$1|1|"),
        ("SET c 3 GET", "$-1|"),
        ("MGET a b c d", "*4|$1|3|$1|2|$1|3|$-1|"),
        ("EXISTS a a d", ":2|"),
        ("STRLEN a", ":1|"),
        ("DBSIZE", ":3|"),
        ("DEL a b d", ":2|"),
        ("MSET a 1 b 2 a 3", "+OK|"),
        ("MGET a b", "*2|$1|3|$1|2|"),
        ("FLUSHDB", "+OK|"),
        ("DBSIZE", ":0|"),
    ]);
}

#[test]
fn counters() {
    play(&[
        ("INCR a", ":1|"),
        ("INCRBY a 41", ":42|"),
        ("DECR a", ":41|"),
        ("DECRBY a 50", ":-9|"),
        ("GET a", "$2|-9|"),
        ("SET a 9223372036854775807", "+OK|"),
        ("INCR a", "-ERR increment or decrement would overflow|"),
        ("DECRBY b -9223372036854775808", "-ERR decrement would overflow|"),
        ("SET a 01", "+OK|"),
        ("INCR a", "-ERR value is not an integer or out of range|"),
        ("INCRBY b 1x", "-ERR value is not an integer or out of range|"),
    ]);
}

#[test]
fn keys_expire() {
    let mut rig = Rig::new();
    assert_eq!(rig.say("SET a 1 EX 2"), "+OK|");
    assert_eq!(rig.say("SET b 1 PX 1500"), "+OK|");
    assert_eq!(rig.say("SET c 1"), "+OK|");
    assert_eq!(rig.say("PEXPIRE c 3000"), ":1|");
    assert_eq!(rig.say("EXPIRE d 3"), ":0|");
    assert_eq!(rig.say("PTTL b"), ":1500|");
    assert_eq!(rig.say("TTL b"), ":2|", "rounded to the nearest second");
    assert_eq!(rig.say("TTL d"), ":-2|");
    rig.wait(1500);
    assert_eq!(rig.say("GET b"), "$-1|");
    assert_eq!(rig.say("SET b 2 XX"), "$-1|", "an expired key is absent");
    assert_eq!(rig.say("INCR b"), ":1|");
    assert_eq!(rig.say("TTL b"), ":-1|", "and its deadline does not pass on");
    assert_eq!(rig.say("SET a 2 KEEPTTL"), "+OK|");
    assert_eq!(rig.say("PTTL a"), ":500|");
    assert_eq!(rig.say("PERSIST a"), ":1|");
    assert_eq!(rig.say("TTL a"), ":-1|");
    assert_eq!(rig.say("EXPIRE a -1"), ":1|");
    assert_eq!(rig.say("EXISTS a"), ":0|");
    assert_eq!(rig.store.len(), 2, "a is removed at once");
    assert_eq!(rig.store.expire(rig.now, 10), 0);
    rig.wait(1500);
    assert_eq!(rig.store.expire(rig.now, 10), 1, "c is removed");
    assert_eq!((rig.store.len(), rig.store.expiring()), (1, 0));
}

#[test]
fn wrong_use_gets_an_error_and_the_connection_goes_on() {
    play(&[
        ("GET", "-ERR wrong number of arguments for 'get' command|"),
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command|"),
        ("NOSUCH a", "-ERR unknown command 'NOSUCH', with args beginning with: 'a' |"),
        ("SET a 1 EX", "-ERR syntax error|"),
        ("SET a 1 EX 1 PX 1", "-ERR syntax error|"),
        ("SET a 1 NX XX", "-ERR syntax error|"),
        ("SET a 1 EX x", "-ERR value is not an integer or out of range|"),
        ("SET a 1 EX 0", "-ERR invalid expire time in 'set' command|"),
        ("SET a 1 EX 9223372036854775807", "-ERR invalid expire time in 'set' command|"),
        ("EXPIRE a 9223372036854775807", "-ERR invalid expire time in 'expire' command|"),
        ("SELECT 1", "-ERR DB index is out of range|"),
        ("HELLO 4", "-NOPROTO unsupported protocol version|"),
        (
            "CLIENT SETNAME \"a b\"",
            "-ERR Client names cannot contain spaces, newlines or special characters.|",
        ),
        ("\"a\\r\\nb\"", "-ERR unknown command 'a\\r\\nb', with args beginning with: |"),
        ("", ""),
        ("PING", "+PONG|"),
    ]);
}

#[test]
fn clients_introduce_themselves() {
    let mut rig = Rig::new();
    assert_eq!(rig.say("CLIENT SETINFO LIB-NAME x"), "+OK|");
    assert_eq!(rig.say("CLIENT GETNAME"), "$-1|");
    assert!(rig.say("HELLO 3 SETNAME me").starts_with("%6|$6|server|"));
    assert_eq!(rig.say("CLIENT GETNAME"), "$2|me|");
    assert_eq!(rig.say("CLIENT ID"), ":7|");
    assert_eq!(rig.say("GET a"), "_|");
    assert_eq!(rig.say("CONFIG GET save appendonly"), "%2|$4|save|$0||$10|appendonly|$2|no|");
    assert!(rig.say("HELLO 2").starts_with("*12|"));
    assert_eq!(rig.say("CONFIG GET save"), "*2|$4|save|$0||");
    assert_eq!(rig.say("COMMAND INFO get nosuch"), "*2|*6|$3|get|:2|*2|+readonly|+fast|:1|:1|:1|$-1|");
    assert!(rig.say("COMMAND DOCS").starts_with("*56|$6|client|*6|$7|summary|"));
    assert!(rig.say("COMMAND").starts_with("*28|*6|"));
    assert!(rig.say("INFO").contains("total_commands_processed:13|"));
    assert_eq!(rig.say("INFO keyspace"), "$12|# Keyspace||");
}

#[test]
fn quotes_of_inline_requests() {
    play(&[
        (r#"ECHO "a b\x41\n""#, "$5|a bA\n|"),
        (r"ECHO 'a\'b\n'", "$5|a'b\\n|"),
        (r#"ECHO """#, "$0||"),
        (r#"  ECHO   a"b"c "#, "-ERR Protocol error: unbalanced quotes in request|"),
    ]);
    assert_eq!(Rig::new().say("ECHO 'a"), "-ERR Protocol error: unbalanced quotes in request|");
}

#[test]
fn what_is_not_the_protocol_ends_the_connection() {
    let cases: [(&[u8], &str); 10] = [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*1\r\n+PING\r\n", "expected '$', got '+'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
        (b"*1\r\n$536870912\r\n", "the request is longer than 100000 bytes"),
        (b"*1\r\n$4\r\nPINGxx", "expected CR LF after an argument"),
        (b"GET \"a\r\n", "unbalanced quotes in request"),
        (&[b'a'; 65537], "too big inline request"),
    ];
    for (bytes, message) in cases {
        let mut input = b"PING\r\n".to_vec();
        input.extend_from_slice(bytes);
        let (replies, closed) = Rig::new().send(&input);
        let expected = format!("+PONG\r\n-ERR Protocol error: {message}\r\n");
        assert_eq!(String::from_utf8_lossy(&replies), expected);
        assert!(closed);
    }
    assert_eq!(Rig::new().send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"), (Vec::new(), true));
    assert_eq!(Rig::new().send(b"QUIT\r\nPING\r\n"), (b"+OK\r\n".to_vec(), true));
}

#[test]
fn nothing_to_do_gets_no_reply() {
    for bytes in [&b"\r\n"[..], b"*0\r\n", b"*-1\r\n", b"\n", b"*", b"*1\r\n$4\r\nPING", b"GET a"] {
        assert_eq!(Rig::new().send(bytes), (Vec::new(), false));
    }
}

#[test]
fn large_values_come_back_whole_however_they_arrived() {
    for len in [0, 22, 23, 4095, 4096, 10_000, 90_000] {
        let value: Vec<u8> = (0..len).map(|index| index as u8).collect();
        let mut input = request(&[b"SET", b"key", &value]);
        input.extend_from_slice(&request(&[b"MGET", b"key", b"key"]));
        let bulk = [format!("${len}\r\n").as_bytes(), &value, b"\r\n"].concat();
        let expected = [b"+OK\r\n*2\r\n", &bulk[..], &bulk].concat();
        for chunk in [1, 1000, 16 * 1024, input.len()] {
            let mut rig = Rig::new();
            let replies: Vec<u8> = input.chunks(chunk).flat_map(|part| rig.send(part).0).collect();
            assert!(replies == expected, "{len} bytes in parts of {chunk}");
        }
    }
}

#[test]
fn many_replies_are_pushed_in_batches() {
    let mut rig = Rig::new();
    rig.send(&request(&[b"SET", b"key", &[b'v'; 4000]]));
    rig.connection.receive(Buffer::from(request(&[b"GET", b"key"]).repeat(100)));
    let mut batches = 0;
    while rig.connection.run(&mut rig.store, &mut rig.server, rig.now) == Next::More {
        let len = rig.connection.replies.take().len();
        assert!((64 * 1024..70_000).contains(&len));
        batches += 1;
    }
    assert_eq!(batches, 100 * 4009 / (17 * 4009));
}

/// Requests and what is nearly a request: whole, cut short, with wrong lengths, and noise.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        prop::sample::select(
            &[
                "GET", "set", "DEL", "incr", "MGET", "MSET", "PING", "EX", "NX", "GET", "a", "b", "10", "-1",
                "COMMAND"
            ][..]
        )
        .prop_map(|word| word.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
        (0..9000_usize).prop_map(|len| vec![b'v'; len]),
    ];
    let whole = prop::collection::vec(word.clone(), 0..6)
        .prop_map(|words| request(&words.iter().map(|word| &word[..]).collect::<Vec<_>>()));
    let inline =
        prop::collection::vec(word, 0..4).prop_map(|words| [&words.join(&b' ')[..], b"\r\n"].concat());
    let near =
        (whole.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        });
    let noise = prop::collection::vec(any::<u8>(), 0..30);
    let piece = prop_oneof![6 => whole, 2 => inline, 1 => near, 1 => noise];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the bytes are cut, the replies and the end are the same, and nothing panics.
    #[test]
    fn cuts_do_not_matter(input in input(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let expected = Rig::new().send(&input);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let mut rig = Rig::new();
        let (mut replies, mut closed) = (Vec::new(), false);
        for cut in cuts.windows(2) {
            if !closed {
                let (more, end) = rig.send(&input[cut[0]..cut[1]]);
                replies.extend(more);
                closed = end;
            }
        }
        prop_assert_eq!((replies, closed), expected);
    }

    /// Each byte on its own.
    #[test]
    fn bytes_may_come_one_by_one(input in input()) {
        let expected = Rig::new().send(&input);
        let mut rig = Rig::new();
        let mut replies = Vec::new();
        let closed = input.iter().any(|byte| {
            let (more, closed) = rig.send(std::slice::from_ref(byte));
            replies.extend(more);
            closed
        });
        prop_assert_eq!((replies, closed), expected);
    }

    /// The set of deadlines and the entries say the same after any commands.
    #[test]
    fn deadlines_match_the_entries(commands in prop::collection::vec((0..9, 0..3, 1..50_u64), 0..60)) {
        let mut rig = Rig::new();
        for (command, key, number) in commands {
            match command {
                0 => rig.say(&format!("SET {key} x PX {number}")),
                1 => rig.say(&format!("SET {key} x")),
                2 => rig.say(&format!("SET {key} x KEEPTTL")),
                3 => rig.say(&format!("DEL {key}")),
                4 => rig.say(&format!("PEXPIRE {key} {number}")),
                5 => rig.say(&format!("PERSIST {key}")),
                6 => rig.say(&format!("INCR {key}")),
                7 => { rig.store.expire(rig.now, number as usize % 3); String::new() }
                _ => { rig.wait(number); String::new() }
            };
        }
        rig.store.expire(rig.now, usize::MAX);
        let alive = (0..3).map(|key| rig.say(&format!("PTTL {key}"))).collect::<Vec<_>>();
        prop_assert_eq!(rig.store.len(), alive.iter().filter(|ttl| *ttl != ":-2|").count());
        prop_assert_eq!(rig.store.expiring(), alive.iter().filter(|ttl| !ttl.starts_with(":-")).count());
    }
}
