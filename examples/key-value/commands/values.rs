//! Commands on keys and values.

use super::super::resp::{LARGE, Replies, Request};
use super::super::store::{Blob, CountError, Expiry, Lifetime, Only, parse_integer};
use super::{Session, not_an_integer, syntax_error, wrong_arguments};
use demikernel::time::{Duration, Instant};

pub(super) fn get(session: &mut Session<'_>, request: Request<'_>) {
    look_up(session, &request[1]);
}

/// Replies the value of a key, and counts whether there was one.
fn look_up(session: &mut Session<'_>, key: &[u8]) {
    let value = session.store.get(key, session.now);
    match value {
        Some(_) => session.server.hits += 1,
        None => session.server.misses += 1,
    }
    reply_value(session.replies, value);
}

fn reply_value(replies: &mut Replies, value: Option<&Blob>) {
    match value {
        Some(Blob::Shared(buffer)) => replies.bulk_shared(buffer),
        Some(value) => replies.bulk(value),
        None => replies.null(),
    }
}

pub(super) fn mget(session: &mut Session<'_>, request: Request<'_>) {
    session.replies.array(request.len() - 1);
    request.from(1).for_each(|key| look_up(session, key));
}

pub(super) fn strlen(session: &mut Session<'_>, request: Request<'_>) {
    let len = session.store.get(&request[1], session.now).map_or(0, |value| value.len());
    session.replies.integer(len as i64);
}

/// The value in an argument, as it is kept.
fn value_of(request: Request<'_>, index: usize) -> Blob {
    let bytes = &request[index];
    if bytes.len() < LARGE { Blob::from(bytes) } else { Blob::Shared(request.buffer(index)) }
}

pub(super) fn mset(session: &mut Session<'_>, request: Request<'_>) {
    if request.len().is_multiple_of(2) {
        return wrong_arguments(session, "mset");
    }
    for index in (1..request.len()).step_by(2) {
        let value = value_of(request, index + 1);
        session.store.set(&request[index], value, Expiry::Never, None, session.now);
    }
    session.replies.ok();
}

/// The options of SET.
#[derive(Default)]
struct SetOptions {
    expiry: Option<Expiry>,
    only: Option<Only>,
    get: bool,
}

enum SetError {
    Syntax,
    NotAnInteger,
    ExpireTime,
}

pub(super) fn set(session: &mut Session<'_>, request: Request<'_>) {
    let options = match set_options(request, session.now) {
        Ok(options) => options,
        Err(SetError::Syntax) => return syntax_error(session),
        Err(SetError::NotAnInteger) => return not_an_integer(session),
        Err(SetError::ExpireTime) => {
            return session.replies.error("ERR invalid expire time in 'set' command");
        }
    };
    let expiry = options.expiry.unwrap_or(Expiry::Never);
    let value = value_of(request, 2);
    let (stored, previous) = session.store.set(&request[1], value, expiry, options.only, session.now);
    if options.get {
        reply_value(session.replies, previous.as_ref());
    } else if stored {
        session.replies.ok();
    } else {
        session.replies.null();
    }
}

fn set_options(request: Request<'_>, now: Instant) -> Result<SetOptions, SetError> {
    let mut options = SetOptions::default();
    let mut arguments = request.from(3);
    while let Some(option) = arguments.next() {
        let unit = match option {
            _ if option.eq_ignore_ascii_case(b"ex") => 1000,
            _ if option.eq_ignore_ascii_case(b"px") => 1,
            _ if option.eq_ignore_ascii_case(b"get") => {
                options.get = true;
                continue;
            }
            _ if option.eq_ignore_ascii_case(b"keepttl") && options.expiry.is_none() => {
                options.expiry = Some(Expiry::Keep);
                continue;
            }
            _ if option.eq_ignore_ascii_case(b"nx") && options.only != Some(Only::IfPresent) => {
                options.only = Some(Only::IfMissing);
                continue;
            }
            _ if option.eq_ignore_ascii_case(b"xx") && options.only != Some(Only::IfMissing) => {
                options.only = Some(Only::IfPresent);
                continue;
            }
            _ => return Err(SetError::Syntax),
        };
        if options.expiry.is_some() {
            return Err(SetError::Syntax);
        }
        let time = arguments.next().ok_or(SetError::Syntax)?;
        let time = parse_integer(time).ok_or(SetError::NotAnInteger)?;
        let at = deadline(time, unit, now).filter(|_| time > 0).ok_or(SetError::ExpireTime)?;
        options.expiry = Some(Expiry::At(at));
    }
    Ok(options)
}

/// `count` times `unit` milliseconds from now; `None` if no clock reaches that far. What lies
/// in the past counts as now.
fn deadline(count: i64, unit: i64, now: Instant) -> Option<Instant> {
    let millis = count.checked_mul(unit)?.max(0);
    now.checked_add(Duration::from_millis(millis as u64))
}

pub(super) fn del(session: &mut Session<'_>, request: Request<'_>) {
    let removed = request.from(1).filter(|key| session.store.remove(key, session.now)).count();
    session.replies.integer(removed as i64);
}

pub(super) fn exists(session: &mut Session<'_>, request: Request<'_>) {
    let found = request.from(1).filter(|key| session.store.get(key, session.now).is_some()).count();
    session.replies.integer(found as i64);
}

pub(super) fn incrby(session: &mut Session<'_>, request: Request<'_>) {
    add(session, request, parse_integer(&request[2]));
}

pub(super) fn decrby(session: &mut Session<'_>, request: Request<'_>) {
    let by = parse_integer(&request[2]);
    if by == Some(i64::MIN) {
        return session.replies.error("ERR decrement would overflow");
    }
    add(session, request, by.map(|by| -by));
}

pub(super) fn add(session: &mut Session<'_>, request: Request<'_>, by: Option<i64>) {
    let Some(by) = by else { return not_an_integer(session) };
    match session.store.count(&request[1], by, session.now) {
        Ok(value) => session.replies.integer(value),
        Err(CountError::NotAnInteger) => not_an_integer(session),
        Err(CountError::Overflow) => {
            session.replies.error("ERR increment or decrement would overflow");
        }
    }
}

pub(super) fn expire(session: &mut Session<'_>, request: Request<'_>, unit: i64) {
    if request.len() > 3 {
        return syntax_error(session);
    }
    let Some(count) = parse_integer(&request[2]) else { return not_an_integer(session) };
    let Some(at) = deadline(count, unit, session.now) else {
        let name = if unit == 1 { "pexpire" } else { "expire" };
        return session.replies.error(format_args!("ERR invalid expire time in '{name}' command"));
    };
    let found = session.store.set_deadline(&request[1], Some(at), session.now);
    session.replies.integer(found.into());
}

pub(super) fn persist(session: &mut Session<'_>, request: Request<'_>) {
    let expires = matches!(session.store.lifetime(&request[1], session.now), Lifetime::Until(_));
    if expires {
        session.store.set_deadline(&request[1], None, session.now);
    }
    session.replies.integer(expires.into());
}

pub(super) fn ttl(session: &mut Session<'_>, request: Request<'_>, unit: u128) {
    let reply = match session.store.lifetime(&request[1], session.now) {
        Lifetime::Missing => -2,
        Lifetime::Endless => -1,
        Lifetime::Until(at) => {
            let millis = at.saturating_duration_since(session.now).as_millis();
            ((millis + unit / 2) / unit) as i64
        }
    };
    session.replies.integer(reply);
}

pub(super) fn dbsize(session: &mut Session<'_>, _: Request<'_>) {
    session.replies.integer(session.store.len() as i64);
}

pub(super) fn flushdb(session: &mut Session<'_>, request: Request<'_>) {
    let known = |how: &[u8]| how.eq_ignore_ascii_case(b"sync") || how.eq_ignore_ascii_case(b"async");
    if request.len() > 2 || !request.from(1).all(known) {
        return syntax_error(session);
    }
    session.store.clear();
    session.replies.ok();
}
