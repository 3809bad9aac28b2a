//! Upload locations are the gateway's own and sealed; an upload that does not end in order leaves nothing; no body and no
//! query is believed that the registry behind would read otherwise.

mod believed;
mod broken;
mod locations;
mod resets;
