//! Instructions of a message on RDMA, over the double: callgrind counts all of them, and those of the double's functions.

use std::path::Path;

use anyhow::Result;

use crate::exact;
use crate::process::Runner;
use crate::setup::{self, Tool};
use crate::vm::lab;
use crate::workspace::Workspace;

/// What it takes, and what the comparison does.
pub(super) const TOOLS: &[&Tool] = &{
    let mut tools = [&setup::VALGRIND; lab::TOOLS.len() + 1];
    let mut index = 0;
    while index < lab::TOOLS.len() {
        tools[index] = lab::TOOLS[index];
        index += 1;
    }
    tools
};

/// The double's functions that stand for a driver's.
const DOUBLE: [&str; 3] = ["transfer::post_send", "queues::post_shared", "queues::poll"];

/// What runs until all is warm, and what is counted.
const COUNTS: [u64; 2] = [2000, 6000];

/// The table.
pub(super) fn table(runner: &mut Runner, workspace: &Workspace, cost: &Path, echo: &Path) -> Result<String> {
    let mut lines = vec!["| instructions, without the driver's | 64 B | 1024 B | 64 KiB |".to_owned()];
    lines.push("|---|---|---|---|".to_owned());
    for (label, program, messages, lengths) in [
        ("verbs: send, receive, and post the receive anew", cost, 1, &[64, 1024][..]),
        ("stream: from a task's push to another's pop", echo, 2, &[64, 1024, 65_536]),
    ] {
        let mut line = format!("| {label} |");
        for length in lengths {
            let mut of = |count| -> Result<f64> {
                let all = instructions(runner, workspace, program, count, *length, &[])?;
                let double = instructions(runner, workspace, program, count, *length, &DOUBLE)?;
                Ok((all - double) as f64)
            };
            let counted = of(COUNTS[1])? - of(COUNTS[0])?;
            line += &format!(" {:.0} |", counted / ((COUNTS[1] - COUNTS[0]) * messages) as f64);
        }
        lines.push(line + &" |".repeat(3 - lengths.len()));
    }
    Ok(lines.join("\n"))
}

/// What a run takes in all, or in these functions of the double and what they call.
fn instructions(
    runner: &mut Runner,
    workspace: &Workspace,
    program: &Path,
    count: u64,
    length: usize,
    inside: &[&str],
) -> Result<u64> {
    let mut command = workspace.command("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    // Counting begins when one begins, and ends with it; without any it is all that is counted.
    command.args(inside.iter().map(|function| format!("--toggle-collect=*double::{function}")));
    command.arg(program).args([count.to_string(), length.to_string()]);
    exact::number_after(&runner.errors(&mut command)?, "Collected :")
}
