"""The node: the only place where core, storage and asyncio meet."""
