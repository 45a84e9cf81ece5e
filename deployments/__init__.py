"""The Prefect side of the project on one machine: `make up`, `make status`, `make down`."""
