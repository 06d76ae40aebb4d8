//! Commands that are about a connection or the server.

use super::super::resp::{Replies, Request, Version};
use super::super::store::parse_integer;
use super::{COMMANDS, Command, Session, find_by_name, head, not_an_integer, wrong_arguments};

pub(super) fn ping(session: &mut Session<'_>, request: Request<'_>) {
    match request.len() {
        1 => session.replies.simple("PONG"),
        2 => session.replies.bulk(&request[1]),
        _ => wrong_arguments(session, "ping"),
    }
}

pub(super) fn quit(session: &mut Session<'_>, _: Request<'_>) {
    session.replies.ok();
    session.client.closing = true;
}

pub(super) fn select(session: &mut Session<'_>, request: Request<'_>) {
    match parse_integer(&request[1]) {
        Some(0) => session.replies.ok(),
        Some(_) => session.replies.error("ERR DB index is out of range"),
        None => not_an_integer(session),
    }
}

pub(super) fn hello(session: &mut Session<'_>, request: Request<'_>) {
    let mut version = session.replies.version;
    if let Some(argument) = request.get(1) {
        version = match parse_integer(argument) {
            Some(2) => Version::Resp2,
            Some(3) => Version::Resp3,
            Some(_) => return session.replies.error("NOPROTO unsupported protocol version"),
            None => {
                return session.replies.error("ERR Protocol version is not an integer or out of range");
            }
        };
    }
    let mut options = request.from(2);
    let mut name = None;
    while let Some(option) = options.next() {
        match options.next() {
            Some(value) if option.eq_ignore_ascii_case(b"setname") => name = Some(value),
            _ => {
                let option = head(option);
                return session.replies.error(format_args!("ERR Syntax error in HELLO option '{option}'"));
            }
        }
    }
    if let Some(name) = name
        && !set_name(session, name)
    {
        return;
    }
    let replies = &mut *session.replies;
    replies.version = version;
    replies.map(6);
    for (key, value) in [("server", "demikernel-key-value"), ("version", env!("CARGO_PKG_VERSION"))] {
        replies.bulk(key.as_bytes());
        replies.bulk(value.as_bytes());
    }
    replies.bulk(b"proto");
    replies.integer(version as i64);
    replies.bulk(b"id");
    replies.integer(session.client.id);
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        replies.bulk(key.as_bytes());
        replies.bulk(value.as_bytes());
    }
}

pub(super) fn reset(session: &mut Session<'_>, _: Request<'_>) {
    session.client.name.clear();
    session.replies.version = Version::Resp2;
    session.replies.simple("RESET");
}

pub(super) fn client(session: &mut Session<'_>, request: Request<'_>) {
    let subcommand = &request[1];
    match request.len() {
        2 if subcommand.eq_ignore_ascii_case(b"id") => session.replies.integer(session.client.id),
        2 if subcommand.eq_ignore_ascii_case(b"getname") => match session.client.name.is_empty() {
            true => session.replies.null(),
            false => session.replies.bulk(&session.client.name),
        },
        3 if subcommand.eq_ignore_ascii_case(b"setname") => {
            if set_name(session, &request[2]) {
                session.replies.ok();
            }
        }
        // What library the client is made with is not kept: nothing here would show it.
        4 if subcommand.eq_ignore_ascii_case(b"setinfo") => session.replies.ok(),
        _ => unknown_subcommand(session, subcommand, "CLIENT"),
    }
}

/// Names the connection, or replies why not.
fn set_name(session: &mut Session<'_>, name: &[u8]) -> bool {
    if !name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        session.replies.error("ERR Client names cannot contain spaces, newlines or special characters.");
        return false;
    }
    if name.len() > 256 {
        session.replies.error("ERR Client names cannot be longer than 256 bytes");
        return false;
    }
    session.client.name = name.to_vec();
    true
}

fn unknown_subcommand(session: &mut Session<'_>, subcommand: &[u8], command: &str) {
    let subcommand = head(subcommand);
    session.replies.error(format_args!(
        "ERR unknown subcommand or wrong number of arguments for '{subcommand}' of {command}"
    ));
}

pub(super) fn config(session: &mut Session<'_>, request: Request<'_>) {
    if request.len() < 3 || !request[1].eq_ignore_ascii_case(b"get") {
        return unknown_subcommand(session, &request[1], "CONFIG");
    }
    let max_clients = session.server.max_clients.to_string();
    let settings = [
        ("save", ""),
        ("appendonly", "no"),
        ("databases", "1"),
        ("maxclients", &max_clients),
        ("maxmemory", "0"),
        ("timeout", "0"),
    ];
    let asked = |name: &str| {
        request.from(2).any(|pattern| pattern == b"*" || pattern.eq_ignore_ascii_case(name.as_bytes()))
    };
    session.replies.map(settings.iter().filter(|(name, _)| asked(name)).count());
    for (name, value) in settings.iter().filter(|(name, _)| asked(name)) {
        session.replies.bulk(name.as_bytes());
        session.replies.bulk(value.as_bytes());
    }
}

pub(super) fn command(session: &mut Session<'_>, request: Request<'_>) {
    let names = request.from(2);
    match request.get(1) {
        None => {
            session.replies.array(COMMANDS.len());
            COMMANDS.iter().for_each(|command| describe(session.replies, command));
        }
        Some(subcommand) if subcommand.eq_ignore_ascii_case(b"count") => {
            session.replies.integer(COMMANDS.len() as i64);
        }
        Some(subcommand) if subcommand.eq_ignore_ascii_case(b"info") => {
            session.replies.array(request.len() - 2);
            for name in names {
                match find_by_name(name) {
                    Some(command) => describe(session.replies, command),
                    None => session.replies.null(),
                }
            }
        }
        Some(subcommand) if subcommand.eq_ignore_ascii_case(b"docs") => {
            let all = request.len() == 2;
            let asked: Vec<_> =
                if all { COMMANDS.iter().collect() } else { names.filter_map(find_by_name).collect() };
            session.replies.map(asked.len());
            asked.into_iter().for_each(|command| document(session.replies, command));
        }
        Some(subcommand) => unknown_subcommand(session, subcommand, "COMMAND"),
    }
}

fn describe(replies: &mut Replies, command: &Command) {
    replies.array(6);
    replies.bulk(command.name.as_bytes());
    replies.integer(command.arity.into());
    replies.array(command.flags.len());
    command.flags.iter().for_each(|flag| replies.simple(flag));
    command.keys.iter().for_each(|&key| replies.integer(key.into()));
}

fn document(replies: &mut Replies, command: &Command) {
    replies.bulk(command.name.as_bytes());
    replies.map(3);
    let group = if command.keys[0] == 0 { "server" } else { "string" };
    for (key, value) in [("summary", command.summary), ("since", "1.0.0"), ("group", group)] {
        replies.bulk(key.as_bytes());
        replies.bulk(value.as_bytes());
    }
}

pub(super) fn info(session: &mut Session<'_>, request: Request<'_>) {
    let Session { store, server, now, .. } = session;
    let sections = [
        (
            "Server",
            format!(
                "server_name:demikernel-key-value\r\nserver_version:{}\r\ntransport:{}\r\n\
                 process_id:{}\r\nuptime_in_seconds:{}\r\n",
                env!("CARGO_PKG_VERSION"),
                server.transport,
                std::process::id(),
                now.saturating_duration_since(server.started).as_secs(),
            ),
        ),
        ("Clients", format!("connected_clients:{}\r\nmaxclients:{}\r\n", server.clients, server.max_clients)),
        (
            "Stats",
            format!(
                "total_connections_received:{}\r\ntotal_commands_processed:{}\r\n\
                 expired_keys:{}\r\nkeyspace_hits:{}\r\nkeyspace_misses:{}\r\n",
                server.accepted, server.commands, server.expired, server.hits, server.misses,
            ),
        ),
        (
            "Keyspace",
            match store.len() {
                0 => String::new(),
                keys => format!("db0:keys={keys},expires={},avg_ttl=0\r\n", store.expiring()),
            },
        ),
    ];
    let asked = |section: &str| {
        let all = ["all", "default", "everything"];
        request.len() == 1
            || request.from(1).any(|name| {
                name.eq_ignore_ascii_case(section.as_bytes())
                    || all.iter().any(|all| name.eq_ignore_ascii_case(all.as_bytes()))
            })
    };
    let text: Vec<_> = sections
        .iter()
        .filter(|(name, _)| asked(name))
        .map(|(name, lines)| format!("# {name}\r\n{lines}"))
        .collect();
    session.replies.bulk(text.join("\r\n").as_bytes());
}
