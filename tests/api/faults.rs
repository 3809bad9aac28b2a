//! An upstream that fails, lies or is odd; and a gateway that is killed. The client sees an error or an abnormal end, never
//! wrong bytes that look right, and never what is the upstream's.

mod answers;
mod connections;
mod downloads;
mod login;
mod proofs;
mod redirects;
