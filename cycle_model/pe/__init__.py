"""The processing element: values (functional) and time (exact, fast)."""
