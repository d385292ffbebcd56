internal import MCFSCore
