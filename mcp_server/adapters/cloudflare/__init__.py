"""DNS records in zones at Cloudflare."""
