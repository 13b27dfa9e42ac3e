//! Objects that a namespace gets while it is used. Each is a region of its own, one that depends on
//! the namespace's (region/dependents.rs): a namespace that has this object and no other.
//!
//! No table lists them: each is a file in the namespace's directory of dependents. A complete
//! region gets its name by link(2), so of two processes that create the same name one does, and the
//! other finds a complete object.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::namespace::lookup::{Found, NamespaceObject};
use crate::namespace::{Namespace, Spec, not_found};
use crate::object::kind::ObjectKind;
use crate::object::member::Membership;
use crate::object::table::{NAME_MAX, Table};
use crate::options::OpenMode;
use crate::region::Region;
use crate::region::directory::is_valid_name;
use crate::region::layout::header::RegionKind;
use crate::region::settings::Settings;

impl Namespace {
    /// Creates an object of that name. Other processes that have this namespace open find it at
    /// once.
    ///
    /// ```
    /// use tombolo::{Namespace, Spec};
    ///
    /// # let scratch = std::env::temp_dir().join(format!("tombolo-create-{}", std::process::id()));
    /// let builder = Namespace::builder();
    /// # let builder = builder.directory(&scratch);
    /// let market = builder.open("market")?; // begins empty
    /// let mut orders = market.create("orders", Spec::queue::<u64>(1024))?;
    /// orders.send(7)?;
    ///
    /// // In any process that has the namespace open:
    /// assert_eq!(market.queue::<u64>("orders")?.recv()?, 7);
    /// market.remove("orders")?;
    /// assert!(market.names()?.is_empty());
    /// # drop((orders, market));
    /// # std::fs::remove_dir(scratch).ok();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The object stays until it is [removed](Self::remove), or the namespace is. As many processes
    /// can use it as can use the namespace. Each has a descriptor and a mapping for each object
    /// that it has open.
    ///
    /// A namespace without a name gets no objects later.
    ///
    /// # Blocking
    ///
    /// Up to half a second if a process was stopped while it removed something there.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::AlreadyExists`] if there is an object of that name.
    /// - [`ErrorKind::InvalidName`] if the name is longer than 64 bytes, or cannot be that of a
    ///   file.
    /// - [`ErrorKind::InvalidOptions`] if there can be no such object, or the namespace has no
    ///   name.
    /// - [`ErrorKind::NameRemoved`] if the namespace was removed.
    /// - [`ErrorKind::NoSpace`], [`ErrorKind::Forked`] in a forked child.
    pub fn create<O: NamespaceObject>(&self, name: &str, spec: Spec<O>) -> Result<O> {
        self.create_object(name, spec, OpenMode::CreateNew)
    }

    /// Opens the object of that name, or creates it. One that exists keeps its value.
    ///
    /// # Blocking
    ///
    /// Like [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create) but for [`ErrorKind::AlreadyExists`], and those of
    /// [`object`](Self::object).
    pub fn open_or_create<O: NamespaceObject>(&self, name: &str, spec: Spec<O>) -> Result<O> {
        self.create_object(name, spec, OpenMode::OpenOrCreate)
    }

    fn create_object<O: NamespaceObject>(&self, name: &str, spec: Spec<O>, mode: OpenMode) -> Result<O> {
        let action = format!("create the object {name:?}");
        if !self.member.is_from_this_process() {
            return Err(Error::forked(action));
        }
        if name.len() > NAME_MAX {
            let (found, expected) = (format!("{} bytes", name.len()), format!("at most {NAME_MAX}"));
            return Err(Error::new(ErrorKind::InvalidName, action, found, expected, "choose a shorter name"));
        }
        let owner = self.member.region();
        if let Some((index, planned)) = self.member.table().find(name) {
            if mode == OpenMode::OpenOrCreate {
                spec.into_builder().check_object(owner, planned)?;
                return O::attach(self, Found { member: Arc::clone(&self.member), index });
            }
            let found = "one of that name, which the namespace began with";
            return Err(Error::new(ErrorKind::AlreadyExists, action, found, "none", "open it, or choose another name"));
        }
        let create = |directory| spec.into_builder().object_of(self, name, directory, mode)?.open(name);
        let created = owner.make_dependents().and_then(create); // dependents-create-1
        if !owner.is_active() {
            owner.remove_dependents(); // dependents-create-2
            return Err(Error::name_removed(action));
        }
        O::attach(self, Found { member: created?.member, index: 0 })
    }

    /// Removes the object of that name. Processes that have it open go on using it, and its memory
    /// goes back with the last of them. The name is free at once.
    ///
    /// # Blocking
    ///
    /// Up to a second if a process was stopped while it joined, left or removed something there.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if there is no object of that name.
    /// - [`ErrorKind::InvalidOptions`] if the namespace began with it: it goes with the namespace.
    /// - [`ErrorKind::Busy`] if a process was stopped while it removed something there.
    /// - [`ErrorKind::Forked`] in a forked child.
    pub fn remove(&self, name: &str) -> Result<()> {
        let action = format!("remove the object {name:?}");
        if !self.member.is_from_this_process() {
            return Err(Error::forked(action));
        }
        if self.member.table().find(name).is_some() {
            let found = "that the namespace began with it";
            let expected = "one that was created later";
            let remedy = "leave it: it goes with the namespace";
            return Err(Error::new(ErrorKind::InvalidOptions, action, found, expected, remedy));
        }
        self.open_created(name)?.remove(true)
    }

    /// Returns the names of all objects: those that it began with, then those that were created
    /// later, sorted.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Permission`] if the objects cannot be listed.
    pub fn names(&self) -> Result<Vec<String>> {
        let planned = self.member.table().entries.iter().map(|entry| entry.name.clone());
        Ok(planned.chain(self.created_names()?).collect())
    }

    /// Returns the names and kinds of all objects, in the order of [`names`](Self::names).
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Permission`] if the objects cannot be listed, and those of
    /// [`object`](Self::object) if one cannot be opened.
    pub fn entries(&self) -> Result<Vec<(String, ObjectKind)>> {
        let mut entries: Vec<_> = self.objects().map(|(name, kind)| (name.to_string(), kind)).collect();
        for name in self.created_names()? {
            match self.open_created(&name).and_then(|region| read(&region)) {
                Ok((_, kind)) => entries.push((name, kind)),
                Err(error) if error.kind() == ErrorKind::NotFound => {} // removed meanwhile
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    fn created_names(&self) -> Result<Vec<String>> {
        self.member.region().dependents().map_or(Ok(Vec::new()), |directory| directory.names())
    }

    /// The object of that name, if it was created later.
    pub(super) fn find_created(&self, name: &str) -> Result<Found> {
        loop {
            let region = self.open_created(name)?;
            let (table, _) = read(&region)?;
            self.settings.bounds.check_steps("open this object", table.steps())?;
            // None: it was removed meanwhile. Another may have its name.
            if let Some(member) = Membership::get_or_join(region, Some(Arc::clone(&self.member)))? {
                return Ok(Found { member, index: 0 });
            }
        }
    }

    fn open_created(&self, name: &str) -> Result<Region> {
        let missing = || not_found(name, self.names().unwrap_or_default());
        let Some(directory) = self.member.region().dependents().filter(|_| is_valid_name(name)) else {
            return Err(missing());
        };
        let settings = Settings { directory, ..(*self.settings).clone() };
        Region::open(name, &settings).map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing(),
            _ => error,
        })
    }
}

/// The table of an object that was created later, and its kind. Refuses any other region.
fn read(region: &Region) -> Result<(Table, ObjectKind)> {
    if region.layout().kind() == RegionKind::Namespace {
        let table = Table::parse(region)?;
        if let [entry] = &table.entries[..] {
            let kind = entry.spec.kind;
            return Ok((table, kind));
        }
    }
    Err(Error::new(
        ErrorKind::WrongType,
        format_args!("open {}", region.display_name()),
        "a region that is no single object",
        "an object of a namespace",
        "remove it: no process that uses tombolo made it there",
    ))
}
