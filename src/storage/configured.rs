//! The store that a runtime is configured with: opened when somebody first asks for it, and then shared.

use super::{Format, Log, LogError, StorageConfig, StorageDevice, Store, StoreOptions, log_error};
use demikernel_runtime::transport::{LogQueue, Logs, OpenMode};
use demikernel_runtime::{Completion, QToken, core_index, default_logs, operation, set_default_logs, spawn};
use std::any::Any;
use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

/// The store of logs that this runtime is configured with.
///
/// Where it is says `storage = "..."` of the macro or the builder, else the variable `DEMIKERNEL_STORAGE`, else `device`
/// under `[storage]` of `demikernel.toml`; what else stands there holds in each case ([`StorageConfig`]). It is opened when
/// it is first asked for, by whoever that is, and stays open as long as the runtime is there.
///
/// ```
/// use demikernel::{Buffer, Builder, storage};
///
/// let runtime = Builder::new().storage("memory:1MiB").build()?;
/// runtime.block_on(async {
///     let orders = storage::store().await?.log("orders").await?;
///     assert_eq!(orders.push(Buffer::from("one coffee")).await?.number, 0);
///     // The same store, and the same log.
///     assert_eq!(storage::log("orders").await?.end(), 1);
///     std::io::Result::Ok(())
/// })?;
/// # std::io::Result::Ok(())
/// ```
///
/// # Errors
/// `NotFound` if nothing says where it is; `InvalidInput` with the key and the value for a configuration that is wrong;
/// `ResourceBusy` if another core or process has it; those of [`open`](super::open). A later call tries again.
///
/// # Panics
/// Outside of a runtime.
pub async fn store() -> io::Result<Store> {
    let logs: Rc<dyn Any> = default_logs().map_err(|_| nowhere())?;
    match logs.downcast::<Configured>() {
        Ok(configured) => configured.store().await,
        Err(logs) => logs.downcast::<Store>().map(|store| (*store).clone()).map_err(|_| nowhere()),
    }
}

/// The log of this name in the [`store`] that this runtime is configured with; it is made if it is not there.
///
/// # Errors
/// As [`store`], and [`Store::log`].
pub async fn log(name: &str) -> io::Result<Log> {
    store().await?.log(name).await
}

/// Makes a store the one of this runtime, whatever was configured: what [`store`] gives, and where
/// [`pdpix::open`](crate::pdpix::open) finds `log:NAME`.
///
/// # Panics
/// Outside of a runtime.
pub fn set_default(store: &Store) {
    set_default_logs(Rc::new(store.clone()));
}

/// What was said about storage by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Named {
    /// Nothing: the file says which device.
    #[default]
    Nothing,
    /// That it is in memory, whatever the file says.
    Memory,
    /// Our driver's, or SPDK's, as the file says.
    Drive {
        by_spdk: bool,
    },
    Device(StorageDevice),
}

/// Where one runtime has its logs.
#[derive(Clone)]
pub(crate) struct Configured(Rc<Inner>);

struct Inner {
    named: Named,
    /// In place of the file that the environment names.
    configuration: Option<String>,
    state: RefCell<State>,
}

#[derive(Default)]
enum State {
    #[default]
    Closed,
    /// These wait for it.
    Opening(Vec<Completion<io::Result<Store>>>),
    Open(Store, #[expect(dead_code, reason = "it is kept while the store is")] Claim),
}

impl Configured {
    /// What was named has to make sense. Whether it can be opened shows when it is.
    ///
    /// # Errors
    /// Which key or value is wrong.
    pub(crate) fn new(named: Named, configuration: Option<&str>) -> io::Result<Configured> {
        let (configuration, state) = (configuration.map(str::to_owned), RefCell::default());
        let configured = Configured(Rc::new(Inner { named, configuration, state }));
        if configured.0.named != Named::Nothing {
            let config = configured.0.config()?;
            config.device.iter().try_for_each(StorageDevice::check)?;
        }
        Ok(configured)
    }

    fn store(&self) -> QToken<io::Result<Store>> {
        let (token, done) = operation();
        let mut state = self.0.state.borrow_mut();
        match &mut *state {
            State::Open(store, _) => {
                let store = store.clone();
                drop(state);
                done.complete(Ok(store));
            }
            State::Opening(waiting) => waiting.push(done),
            State::Closed => {
                *state = State::Opening(vec![done]);
                drop(state);
                spawn(self.0.clone().open()).detach();
            }
        }
        token
    }
}

impl Logs for Configured {
    fn open(&self, name: &str, mode: OpenMode, done: Completion<io::Result<Rc<dyn LogQueue>>>) {
        let (configured, name) = (self.clone(), name.to_owned());
        spawn(async move {
            match configured.store().await {
                Ok(store) => Logs::open(&store, &name, mode, done),
                Err(error) => done.complete(Err(error)),
            }
        })
        .detach();
    }
}

impl Inner {
    async fn open(self: Rc<Inner>) {
        let opened = self.try_open().await;
        let (next, result) = match opened {
            Ok((store, claim)) => (State::Open(store.clone(), claim), Ok(store)),
            Err(failure) => (State::Closed, Err(failure)),
        };
        let State::Opening(waiting) = self.state.replace(next) else { unreachable!("one task opens it") };
        for done in waiting {
            done.complete(result.clone().map_err(io::Error::from));
        }
    }

    async fn try_open(&self) -> Result<(Store, Claim), Failure> {
        let config = self.config().map_err(|error| Failure::from(&error))?;
        let device = device_of(&config.device, core_index()).map_err(|error| Failure::from(&error))?;
        open_store(device, &config).await.map_err(|error| Failure::of(device, &error))
    }

    /// All that was said, with what was named in its place.
    fn config(&self) -> io::Result<StorageConfig> {
        if self.named == Named::Memory {
            return Ok(StorageConfig {
                device: vec![StorageDevice::Memory(64 << 20)],
                ..StorageConfig::default()
            });
        }
        let read = self.configuration.as_deref().map_or_else(StorageConfig::from_env, str::parse);
        let mut config = read.map_err(|error| invalid(error.to_string()))?;
        match &self.named {
            Named::Nothing | Named::Memory => {}
            Named::Device(device) => config.device = vec![device.clone()],
            Named::Drive { by_spdk } => {
                let name = if *by_spdk { "spdk" } else { "nvme" };
                if config.device.is_empty() {
                    let text = format!(
                        "storage {name:?}: which one does not stand in demikernel.toml (device under [storage], such \
                         as \"0000:5e:00.0/1\")"
                    );
                    return Err(invalid(text));
                }
                config.device.iter_mut().try_for_each(|device| drive(device, *by_spdk))?;
            }
        }
        Ok(config)
    }
}

/// Has SPDK drive what is only said to be a drive.
fn drive(device: &mut StorageDevice, by_spdk: bool) -> io::Result<()> {
    let (name, expected) = match by_spdk {
        true => ("spdk", "the address of an NVMe drive or of a target of SPDK's"),
        false => ("nvme", "the address of an NVMe drive"),
    };
    match device {
        StorageDevice::Nvme(address) if by_spdk => *device = StorageDevice::Spdk(std::mem::take(address)),
        StorageDevice::Nvme(_) => {}
        StorageDevice::Spdk(_) if by_spdk => {}
        other => {
            let found = other.to_string();
            let text =
                format!("storage.device: found {found:?}, expected {expected}, as the storage is {name:?}");
            return Err(invalid(text));
        }
    }
    Ok(())
}

/// The device of a core. One alone is for whichever core opens it.
fn device_of(devices: &[StorageDevice], core: usize) -> io::Result<&StorageDevice> {
    match devices {
        [] => Err(nowhere()),
        [only] => Ok(only),
        several => several.get(core).ok_or_else(|| {
            let count = several.len();
            invalid(format!("storage.device: there are {count}, and none for core {core}, counted from 0"))
        }),
    }
}

async fn open_store(device: &StorageDevice, config: &StorageConfig) -> io::Result<(Store, Claim)> {
    let claim = Claim::of(device)?;
    let volume = device.open(config)?;
    let mut options = StoreOptions::new()
        .create(config.format != Format::Never)
        .read_only(config.read_only)
        .accept_loss(config.accept_loss);
    if let Some(bytes) = config.segment {
        options = options.segment_size(bytes);
    }
    let opened = options.open(volume.clone()).await;
    let opened = match opened {
        Err(error) if config.format == Format::Foreign && is_foreign(&error) => {
            tracing::warn!(%device, %error, "what is there is overwritten, as the configuration says");
            options.overwrite(true).open(volume).await
        }
        opened => opened,
    };
    Ok((opened?, claim))
}

fn is_foreign(error: &io::Error) -> bool {
    matches!(log_error(error), Some(LogError::Foreign { .. }))
}

/// That one core has a drive. Files are locked by the kernel; drives are given to the whole process.
struct Claim(Option<StorageDevice>);

static HELD: Mutex<Vec<StorageDevice>> = Mutex::new(Vec::new());

impl Claim {
    fn of(device: &StorageDevice) -> io::Result<Claim> {
        if !matches!(device, StorageDevice::Nvme(_) | StorageDevice::Spdk(_)) {
            return Ok(Claim(None));
        }
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains(device) {
            let text = "another core has it: with a list, device under [storage] has one for each core";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        held.push(device.clone());
        Ok(Claim(Some(device.clone())))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(device) = &self.0 {
            HELD.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other != device);
        }
    }
}

/// Why the store cannot be opened, for all who wait for it. [`log_error`] finds what is wrong with it.
#[derive(Clone, Debug)]
struct Failure {
    kind: io::ErrorKind,
    text: String,
    log: Option<LogError>,
}

impl Failure {
    fn of(device: &StorageDevice, error: &io::Error) -> Failure {
        let advice = match log_error(error) {
            Some(LogError::Foreign { .. }) => " (format = \"foreign\" under [storage])",
            Some(LogError::Blank) => " (format = \"blank\" under [storage] has it made)",
            Some(LogError::LostSegment { .. }) => " (accept-loss = true under [storage])",
            _ => "",
        };
        Failure { text: format!("storage {device}: {error}{advice}"), ..Failure::from(error) }
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Failure {
        Failure { kind: error.kind(), text: error.to_string(), log: log_error(error).cloned() }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> io::Error {
        io::Error::new(failure.kind, failure)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.log.as_ref().map(|error| error as &dyn Error)
    }
}

fn nowhere() -> io::Error {
    let text = "nothing says where this runtime keeps its logs: device under [storage] of the file that DEMIKERNEL_CONFIG \
                names, the variable DEMIKERNEL_STORAGE, and storage = \"...\" of the program do; a simulated machine is given \
                a store by storage::set_default";
    io::Error::new(io::ErrorKind::NotFound, text)
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}
