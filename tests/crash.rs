//! Kill the server; nothing acknowledged is lost.
