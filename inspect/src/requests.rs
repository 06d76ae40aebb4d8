//! What is done for each command.

use crate::protocol::{Answer, Command, LARGEST_CAPTURE, Of, PATIENCE};
use demikernel_runtime::Handle;
use demikernel_runtime::inspect::{self, runtimes};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Does what a line says.
pub(crate) fn answer(line: &str) -> Answer {
    match line.parse() {
        Ok(Command::Metrics) => Answer::Metrics(of_all(|handle| handle.metrics(PATIENCE))),
        Ok(Command::Prometheus) => {
            let metrics = of_all(|handle| handle.metrics(PATIENCE));
            Answer::Prometheus(inspect::prometheus(&metrics.runtimes))
        }
        Ok(Command::Dump(most)) => Answer::Dump(of_all(|handle| handle.dump(most, PATIENCE))),
        Ok(Command::Connections(most)) => {
            Answer::Connections(of_all(|handle| handle.connections(most, PATIENCE)))
        }
        Ok(Command::Capture(path)) => {
            capture(path.as_deref()).unwrap_or_else(|error| Answer::Error(error.to_string()))
        }
        Err(error) => Answer::Error(error.to_string()),
    }
}

fn of_all<T>(ask: impl Fn(&Handle) -> io::Result<T>) -> Of<T> {
    let mut all = Of { runtimes: Vec::new(), silent: Vec::new() };
    for handle in runtimes() {
        match ask(&handle) {
            Ok(answer) => all.runtimes.push(answer),
            // It was there when we looked.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Err(error) => all.silent.push(error.to_string()),
        }
    }
    all
}

/// Switches the captures of all runtimes that can capture; fails if none can.
fn capture(path: Option<&Path>) -> io::Result<Answer> {
    let (mut files, mut error) = (Vec::new(), None);
    let mut any = false;
    for handle in runtimes() {
        match capture_of(&handle, path, files.len()) {
            Ok(file) => {
                any = true;
                files.extend(file);
            }
            Err(failed) => error = Some(failed),
        }
    }
    match error {
        Some(error) if !any => Err(error),
        _ => Ok(Answer::Capture(files)),
    }
}

fn capture_of(handle: &Handle, path: Option<&Path>, number: usize) -> io::Result<Option<PathBuf>> {
    let Some(path) = path else { return handle.capture(None, PATIENCE).map(|_| None) };
    let mut path = path.to_path_buf();
    if number > 0 {
        path.as_mut_os_string().push(format!(".{number}"));
    }
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(explain)?;
    let output = BufWriter::new(Limited { file, left: LARGEST_CAPTURE });
    match handle.capture(Some(Box::new(output)), PATIENCE) {
        Ok(_) => Ok(Some(path)),
        Err(error) => {
            // Nobody writes to it; that it was there a moment is of no interest.
            let _ = std::fs::remove_file(&path);
            Err(error)
        }
    }
}

/// A file that takes no more than so many bytes.
struct Limited {
    file: File,
    left: u64,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, "the capture has as many bytes as it may have")
        })?;
        self.file.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_capture_has_a_limit() {
        let file = OpenOptions::new().write(true).open("/dev/null").unwrap();
        let mut limited = Limited { file, left: 10 };
        assert_eq!(limited.write(&[0; 8]).unwrap(), 8);
        assert_eq!(limited.write(&[0; 8]).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    proptest! {
        #[test]
        fn any_line_has_an_answer_of_one_line(line in "\\PC*|(dump|connections|capture|metrics)[ \\PC]*") {
            prop_assume!(!line.trim().starts_with("capture on"));
            let json = serde_json::to_string(&answer(&line)).unwrap();
            prop_assert!(!json.contains('\n') && json.len() < 1 << 16, "{}", json);
        }
    }
}
