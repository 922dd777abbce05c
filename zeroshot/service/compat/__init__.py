"""Routes in the schemas of other APIs, so that their clients work as they are."""
