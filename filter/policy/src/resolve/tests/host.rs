//! Hosts that do not let anything be shared, or not all the time.

use super::*;
