//! What a worker does to the state of its node in one indivisible moment.

use std::fmt;

/// A part of what the workers of a node share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A key of the shared data.
    Key(Vec<u8>),
    /// A counter, gauge or histogram.
    Metric(String),
    /// A shared queue, by its name.
    Queue(Vec<u8>),
    /// What is due for a worker.
    Inbox(usize),
    /// A peer that answers callouts.
    Cluster(Vec<u8>),
    /// The peer that requests are forwarded to.
    Upstream,
    /// A step of what a worker does, by its number.
    Step(usize),
    /// The order of beginnings and ends of steps.
    RealTime,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "{}", key.escape_ascii()),
            Self::Metric(name) => f.write_str(name),
            Self::Queue(name) => write!(f, "{}", name.escape_ascii()),
            Self::Inbox(worker) => write!(f, "worker {worker}"),
            Self::Cluster(name) => write!(f, "{}", name.escape_ascii()),
            Self::Upstream => f.write_str("upstream"),
            Self::Step(number) => write!(f, "step {number}"),
            Self::RealTime => f.write_str("real time"),
        }
    }
}

/// How a place is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads commute with each other.
    Read,
    /// Additions commute with each other; nobody sees what was there before.
    Add,
    /// Commutes with nothing.
    Write,
}

/// One indivisible act of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Op {
    /// The hostcall, or what the host does by itself.
    pub(crate) name: &'static str,
    pub(crate) touches: Vec<(Place, Access)>,
}

impl Op {
    pub(crate) fn new(name: &'static str, place: Place, access: Access) -> Self {
        Self {
            name,
            touches: vec![(place, access)],
        }
    }

    /// Whether the order of two acts of different workers can make a difference to anybody.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        self.touches.iter().any(|(place, access)| {
            other.touches.iter().any(|(other_place, other_access)| {
                let commute = access == other_access && *access != Access::Write;
                !commute && place == other_place
            })
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some((place, _)) = self.touches.first() {
            write!(f, " of {place}")?;
        }
        Ok(())
    }
}
