# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Modules that are imported when they are needed, by whatever thread is the first.

A module that another thread was importing at a fork can never be imported by the child:
CPython's lock of it stays locked there.  What is imported with imports held has no such
child: a fork waits for it.
"""

from __future__ import annotations

import os
from threading import RLock

imports = RLock()

os.register_at_fork(
    before=imports.acquire, after_in_parent=imports.release, after_in_child=imports.release
)
