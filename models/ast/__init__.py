"""AST (Rudolph et al., "Asymmetric Student-Teacher Networks", WACV 2023): a flow, and what cannot follow it."""
