//! What a server says and does while the database is away.

use super::*;
