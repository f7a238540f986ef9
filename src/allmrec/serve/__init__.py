"""A trained run behind HTTP: an API, durable state, and a page. `allmrec serve RUN`; needs the extra `serve`."""
