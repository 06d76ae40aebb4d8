//! What a device keeps of each region.

use std::cell::{Ref, RefCell, RefMut};
use std::fmt::{self, Debug, Formatter};
use std::rc::Rc;

use super::hooks::RegionHook;
use super::region::{Region, RegionEvent};

/// Somebody who does something about each region of a thread's pool, such as a device that is to reach it.
pub trait RegionUser: 'static {
    /// What is kept of a region: a key, say, or the device's address of it.
    type Entry: Copy + 'static;

    /// A region is mapped. None if it is of no use, which is for the user to tell of.
    fn mapped(&mut self, region: &Region) -> Option<Self::Entry>;

    /// What was given for a region has to be undone: it is about to be unmapped, or the table is dropped.
    fn unmapping(&mut self, entry: Self::Entry);
}

/// A table of what a [`RegionUser`] has made of the regions of this thread's pool, those that exist and those to come
/// ([`on_region`](super::on_region)).
///
/// ```
/// use demikernel_runtime::buffer::{BufferMut, pool};
/// use pool::{Region, RegionTable, RegionUser};
///
/// /// A device whose addresses are the program's, with a bit in front.
/// struct Device;
///
/// impl RegionUser for Device {
///     type Entry = u64;
///
///     fn mapped(&mut self, region: &Region) -> Option<u64> {
///         Some(1 << 63 | region.base.as_ptr() as u64)
///     }
///
///     fn unmapping(&mut self, _address: u64) {}
/// }
///
/// let table = RegionTable::new(Device);
/// let buffer = BufferMut::with_capacity(100)?.freeze();
/// let (_, offset) = buffer.region().unwrap();
/// let address = table.get(buffer.region()).unwrap() + offset as u64;
/// assert_eq!(address, 1 << 63 | buffer.as_ptr() as u64);
/// assert_eq!(table.get(None), None, "memory that is not the pool's is in no region");
/// # Ok::<(), pool::PoolExhausted>(())
/// ```
pub struct RegionTable<U: RegionUser> {
    shared: Rc<Shared<U>>,
    /// Gone before the entries are: from then on none comes.
    hook: Option<RegionHook>,
}

struct Shared<U: RegionUser> {
    user: RefCell<U>,
    /// By the number of a region.
    entries: RefCell<Vec<Option<U::Entry>>>,
}

impl<U: RegionUser> RegionTable<U> {
    /// The user hears of all regions that there are before this returns.
    pub fn new(user: U) -> RegionTable<U> {
        let shared = Rc::new(Shared { user: RefCell::new(user), entries: RefCell::default() });
        let told = shared.clone();
        let hook = Some(super::on_region(move |event| told.tell(event)));
        RegionTable { shared, hook }
    }

    /// What there is for the region of a buffer, or of memory that is not the pool's
    /// ([`Buffer::region`](crate::buffer::Buffer::region)).
    #[inline]
    pub fn get(&self, region: Option<(u32, usize)>) -> Option<U::Entry> {
        let (id, _) = region?;
        *self.shared.entries.borrow().get(id as usize)?
    }

    /// How many regions there is something for.
    pub fn len(&self) -> usize {
        self.shared.entries.borrow().iter().flatten().count()
    }

    /// Whether there is nothing for any region.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The user.
    ///
    /// # Panics
    /// Within a call of its methods.
    pub fn user(&self) -> Ref<'_, U> {
        self.shared.user.borrow()
    }

    /// The same, to change it.
    ///
    /// # Panics
    /// As [`user`](RegionTable::user), and while that is looked at.
    pub fn user_mut(&self) -> RefMut<'_, U> {
        self.shared.user.borrow_mut()
    }
}

impl<U: RegionUser> Shared<U> {
    /// The user's methods may use buffers: entries are not borrowed meanwhile.
    fn tell(&self, event: RegionEvent<'_>) {
        match event {
            RegionEvent::Mapped(region) => {
                let entry = self.user.borrow_mut().mapped(region);
                let mut entries = self.entries.borrow_mut();
                let index = region.id as usize;
                if index >= entries.len() {
                    entries.resize(index + 1, None);
                }
                entries[index] = entry;
            }
            RegionEvent::Unmapping(region) => {
                let entry = self.entries.borrow_mut().get_mut(region.id as usize).and_then(Option::take);
                if let Some(entry) = entry {
                    self.user.borrow_mut().unmapping(entry);
                }
            }
        }
    }
}

impl<U: RegionUser> Drop for RegionTable<U> {
    fn drop(&mut self) {
        self.hook = None;
        let entries = self.shared.entries.take();
        entries.into_iter().flatten().for_each(|entry| self.shared.user.borrow_mut().unmapping(entry));
    }
}

impl<U: RegionUser> Debug for RegionTable<U> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionTable").field("regions", &self.len()).finish()
    }
}
