//! `on_unavailable: allow`: who passes on the verified claim alone, and who never does.

use super::*;
