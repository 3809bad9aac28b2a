//! The one place where bytes become native code. Only a [`Trusted`] buffer does, and it is made in two ways: by the compiler's
//! own hand, or by the compile cache, from the very buffer whose authentication it has checked.

use wasmtime::component::Component;

/// Native code that this program's own compiler made.
pub(super) struct Trusted {
    buffer: Vec<u8>,
    /// Where the code starts in the buffer.
    start: usize,
}

impl Trusted {
    /// What the compiler has just returned.
    pub(super) fn from_compiler(code: Vec<u8>) -> Self {
        Self { buffer: code, start: 0 }
    }

    /// What a verified buffer holds from `start` on.
    pub(super) fn from_verified(buffer: Vec<u8>, start: usize) -> Self {
        Self { buffer, start }
    }

    pub(super) fn code(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// The code, loaded for an engine; an error where the two do not fit.
    #[allow(unsafe_code)]
    pub(super) fn component(&self, engine: &wasmtime::Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes are what wasmtime's own `precompile_component` gave: `Trusted` is made from nothing else.
        unsafe { Component::deserialize(engine, self.code()) }
    }
}
