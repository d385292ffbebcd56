/// The version of mcfs, as `mcfs --version`, `status` and `/metrics` show it.
package let mcfsVersion = "0.1.0"
