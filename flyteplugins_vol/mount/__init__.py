"""The mount: a daemon that serves one volume through FUSE, and the client that starts and commands it.

    client ── spawns ──► daemon ── owns ──► kernel_thread: scheduler + operations + wire_driver (or pyfuse3_driver)
       └── control (unix socket) ──► control_server

Nothing is imported here: a client must not pay for trio and pyfuse3, which only the daemon needs.
"""
