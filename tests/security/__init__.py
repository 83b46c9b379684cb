"""What lmmcl promises of files, addresses and secrets that come from somebody else; each with what would break it."""
