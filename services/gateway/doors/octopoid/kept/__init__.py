"""What a scope keeps beside tasks: flows, orchestrators, roles, messages, projects, drafts and actions."""
