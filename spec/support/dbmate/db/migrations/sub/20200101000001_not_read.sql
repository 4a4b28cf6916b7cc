not read: folders are not searched
