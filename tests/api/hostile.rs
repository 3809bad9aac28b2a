//! Clients that cost more than they are worth: each is stopped where its cost begins, and hears why where it can.

mod crowded;
mod http2;
mod slow;
mod tls;
