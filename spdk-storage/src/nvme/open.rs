//! Opening namespaces, and the controllers that the process has.

use super::address::{Address, Function};
use super::controller::Controller;
use super::driver::NvmeDriver;
use super::vfio::Vfio;
use crate::Queue;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How a drive is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How many commands each core may have under way; less if the drive allows less. 128 unless set.
    pub depth: u32,
    /// How long a command may take before it is aborted, and if that does not help the controller reset. 30 seconds
    /// unless set, at least a millisecond.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { depth: 128, timeout: Duration::from_secs(30) }
    }
}

impl Options {
    /// With nothing that makes no sense.
    fn checked(self) -> Options {
        Options { depth: self.depth.clamp(1, 4095), timeout: self.timeout.max(Duration::from_millis(1)) }
    }
}

/// How long a controller that was let go of just now may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// The controllers of this process, by the address of their function.
static CONTROLLERS: Mutex<Vec<(Function, Weak<Controller>)>> = Mutex::new(Vec::new());

/// Opens a namespace for the runtime of this thread: [`Volume::attach`](crate::Volume::attach) takes it.
///
/// The first to open a namespace of a controller brings that up, with its options; the last to let go of it switches it
/// off.
///
/// # Errors
/// If there is no such controller or namespace, or it is not for this program to have: they say what to do about it.
pub fn open(address: Address, options: Options) -> io::Result<Rc<Queue<NvmeDriver>>> {
    let controller = controller(address.function(), options.checked())?;
    let number = match address.namespace() {
        Some(number) => number,
        None => only(address, &controller.namespaces()?)?,
    };
    let mut driver = NvmeDriver::new(&controller, &controller.namespace(number)?)?;
    driver.connect_now()?;
    Ok(Queue::new(driver))
}

/// The numbers of a controller's namespaces.
///
/// # Errors
/// As [`open`].
pub fn namespaces(function: Function) -> io::Result<Vec<u32>> {
    controller(function, Options::default())?.namespaces()
}

fn only(address: Address, numbers: &[u32]) -> io::Result<u32> {
    match numbers {
        [number] => Ok(*number),
        [] => Err(io::Error::new(io::ErrorKind::NotFound, format!("{address} has no namespace"))),
        several => {
            let text =
                format!("{address} has the namespaces {several:?}: say which, as {address}/{}", several[0]);
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// The controller, which is brought up if the process does not have it.
fn controller(function: Function, options: Options) -> io::Result<Arc<Controller>> {
    let mut controllers = CONTROLLERS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = controllers.iter().position(|(other, _)| *other == function);
    let known = known.map(|index| controllers.swap_remove(index).1);
    if let Some(controller) = known.as_ref().and_then(Weak::upgrade)
        && controller.alive().is_ok()
    {
        controllers.push((function, Arc::downgrade(&controller)));
        return Ok(controller);
    }
    // One that was dropped a moment ago may not have ended, and one that is gone may still be held by other cores.
    let end = Instant::now() + if known.is_some() { ENDING } else { Duration::ZERO };
    let vfio = loop {
        match Vfio::open(function) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => break result?,
        }
    };
    let controller = Controller::new(function.to_string(), Arc::new(vfio), options)?;
    controllers.push((function, Arc::downgrade(&controller)));
    Ok(controller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_with_several_namespaces_wants_to_be_told_which() {
        let address: Address = "00:13.0".parse().unwrap();
        assert_eq!(only(address, &[7]).unwrap(), 7);
        assert_eq!(only(address, &[]).unwrap_err().kind(), io::ErrorKind::NotFound);
        let error = only(address, &[1, 3]).unwrap_err().to_string();
        assert!(error.ends_with("[1, 3]: say which, as 0000:00:13.0/1"), "{error}");
    }

    #[test]
    fn a_controller_that_is_not_there_is_an_error() {
        let error = open("ffff:ff:1f.7".parse().unwrap(), Options::default()).err().unwrap();
        assert!(error.to_string().contains("lspci"), "{error}");
        assert_eq!(
            namespaces("ffff:ff:1f.7".parse::<Address>().unwrap().function()).unwrap_err().kind(),
            error.kind()
        );
    }
}
