//! The functions as a shared object.

#![no_std]

mod functions;
