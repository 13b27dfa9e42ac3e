//! Queues that other processes can join.

use std::process::{Child, Command};
use std::str::FromStr;

use anyhow::{Error, Result, bail};

use crate::case::Case;

pub trait Link: Sized {
    type Tx;
    type Rx;

    fn create(case: &Case) -> Result<Self>;
    /// Returns what another process needs to `open` it.
    fn address(&self) -> String;
    fn open(case: &Case, address: &str) -> Result<Self>;
    fn tx(&self) -> Result<Self::Tx>;
    fn rx(&self) -> Result<Self::Rx>;
    /// Starts a participant; the address is its last argument.
    fn spawn(&self, mut command: Command, _: Role) -> Result<Child> {
        Ok(command.arg(self.address()).spawn()?)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Producer,
    Consumer,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match [Self::Producer, Self::Consumer].into_iter().find(|role| role.name() == name) {
            Some(role) => Ok(role),
            None => bail!("{name} is no role"),
        }
    }
}
