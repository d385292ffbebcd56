print("mcfs")
