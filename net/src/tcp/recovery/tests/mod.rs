//! Stories of single segments, whole senders over a link, and the scoreboard against a model of it.

mod cost;
mod link;
mod links;
mod repair;
mod scoreboard;
mod script;
mod stories;
