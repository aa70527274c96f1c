//! Puts a kernel into guest memory and says how it is entered.
